"""`beliefstream gateway`."""

from __future__ import annotations

from typing import Annotated

import typer

from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.setup import listen, require_rights, require_token, require_topics, settings_for

BACKLOG = 2048  # connections that wait to be accepted


def gateway(
    host: Annotated[
        str | None,
        typer.Option(
            help="address to listen on; 0.0.0.0 for all", show_default="of BELIEFSTREAM_GATEWAY_ADDRESS"
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="port; 0 for any", show_default="of BELIEFSTREAM_GATEWAY_ADDRESS"
        ),
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="let others reach it without a token: they read and write")
    ] = False,
    brokers: Brokers = None,
) -> None:
    """Run the HTTP gateway until SIGTERM: take observations and priors, give out posteriors.

    It is set up by the environment; `beliefstream settings` lists the variables. /openapi.json describes it.

    Example: BELIEFSTREAM_GATEWAY_TOKEN_FILE=token beliefstream gateway --host 0.0.0.0 --port 8081
    """
    import uvicorn  # noqa: F401  first, as workers do not need it: its absence names the right extra

    from beliefstream.streams.bridges.gateway.server import serve_gateway
    from beliefstream.streams.bridges.serving import run
    from beliefstream.streams.monitoring import logs
    from beliefstream.streams.settings.addresses import Address

    settings = settings_for(brokers)
    stated = settings.gateway_address
    address = Address(host or stated.host, stated.port if port is None else port)
    token = settings.token_of_gateway  # raises before a broker is asked
    if not no_token:
        remedy = "set BELIEFSTREAM_GATEWAY_TOKEN_FILE, or let everybody read and write with --no-token"
        require_token(token, address.host, remedy)
    needed = {
        settings.names.observations: ["WRITE"],
        settings.names.priors: ["WRITE"],
        settings.names.posteriors: ["READ"],
    }
    require_rights(settings, needed, "the HTTP gateway")
    with listen(address, BACKLOG) as listening:
        require_topics(settings, settings.names.observations, settings.names.priors)
        print(f"gateway at http://{Address(address.host, listening.getsockname()[1])}", flush=True)
        logs.configure(settings.logs, settings.log_level)
        run(serve_gateway(settings, listening))
