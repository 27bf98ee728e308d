"""`beliefstream bridge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.output import counted
from beliefstream.streams.cli.setup import listen, require_rights, require_topics, settings_for

bridge = typer.Typer(name="bridge", help="Bring observations from elsewhere to Kafka.")


@bridge.command()
def mqtt(
    mapping: Annotated[Path, typer.Argument(metavar="FILE", help="mapping of topics and payloads, JSON")],
    host: Annotated[
        str | None, typer.Option(help="of the MQTT broker", show_default="of BELIEFSTREAM_MQTT_HOST")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="of the MQTT broker", show_default="of BELIEFSTREAM_MQTT_PORT"),
    ] = None,
    brokers: Brokers = None,
) -> None:
    """Forward messages of an MQTT broker as observations until SIGTERM.

    Each is acknowledged only once Kafka has it. User, password and TLS are set by the environment. Its metrics are at
    port 8082.

    Example: beliefstream bridge mqtt mapping.json --host broker.example
    """
    from beliefstream.streams.bridges.mqtt.bridge import serve_mqtt
    from beliefstream.streams.bridges.mqtt.mapping import Mapping
    from beliefstream.streams.bridges.serving import run
    from beliefstream.streams.monitoring import logs

    settings = settings_for(brokers, mqtt_host=host, mqtt_port=port)
    read = Mapping.read(mapping)
    needed = {settings.observations: ["WRITE"], settings.dead_letters: ["WRITE"]}
    require_rights(settings, needed, "the MQTT bridge")
    listening = listen(settings.web_host, settings.mqtt_web_port, option="BELIEFSTREAM_MQTT_WEB_PORT")
    with listening:
        require_topics(settings, *needed)
        logs.configure(settings.logs, settings.log_level)
        counts = run(serve_mqtt(settings, read, listening))
    sent, refused = counted(counts["accepted"], "observation"), counted(counts["rejected"], "dead letter")
    print(f"forwarded {sent} and {refused}")
