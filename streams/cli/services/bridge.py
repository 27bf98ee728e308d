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
    url: Annotated[
        str | None,
        typer.Option(
            metavar="mqtt[s]://[USER@]HOST[:PORT]",
            help="of the MQTT broker; mqtts is TLS",
            show_default="of BELIEFSTREAM_MQTT_URL",
        ),
    ] = None,
    brokers: Brokers = None,
) -> None:
    """Forward messages of an MQTT broker as observations until SIGTERM.

    Each is acknowledged only once Kafka has it. The password is set by the environment. Its metrics are at port 8082.

    Example: beliefstream bridge mqtt mapping.json --url mqtts://bridge@broker.example
    """
    from beliefstream.streams.bridges.mqtt.bridge import serve_mqtt
    from beliefstream.streams.bridges.mqtt.mapping import Mapping
    from beliefstream.streams.bridges.serving import run
    from beliefstream.streams.monitoring import logs

    settings = settings_for(brokers, mqtt_url=url)
    read = Mapping.read(mapping)
    needed = {settings.names.observations: ["WRITE"], settings.names.dead_letters: ["WRITE"]}
    require_rights(settings, needed, "the MQTT bridge")
    listening = listen(settings.bridge_address, option="BELIEFSTREAM_BRIDGE_ADDRESS")
    with listening:
        require_topics(settings, *needed)
        logs.configure(settings.logs, settings.log_level)
        counts = run(serve_mqtt(settings, read, listening))
    sent, refused = counted(counts["accepted"], "observation"), counted(counts["rejected"], "dead letter")
    print(f"forwarded {sent} and {refused}")
