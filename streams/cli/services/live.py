"""`beliefstream live`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.options.groups import grouped
from beliefstream.streams.cli.setup import CommandError, listen, require_token, settings_for

if TYPE_CHECKING:
    from beliefstream.streams.live.layers import Layers


@dataclass(frozen=True)
class Map:
    """The map, and what lies under the beliefs."""

    plane: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y", help="the two coordinates of the map", show_default="x,y or the first two"
        ),
    ] = None
    tiles: Annotated[
        str, typer.Option(metavar="URL", help="of map tiles, with {z}, {x} and {y}", show_default=False)
    ] = ""
    attribution: Annotated[
        str, typer.Option(help="whose the tiles are; shown on the map", show_default=False)
    ] = ""
    floor_plan: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML with image, resolution and origin, as of a ROS map"),
    ] = None

    def axes(self) -> tuple[str, str] | None:
        """The two coordinates, if they are stated; raises CommandError if they are not two."""
        if self.plane is None:
            return None
        axes = self.plane.split(",")
        if len(axes) != 2 or not all(axes):
            raise CommandError(f"--plane: expected two coordinates such as x,y, got {self.plane!r}")
        return axes[0], axes[1]

    def layers(self) -> Layers:
        """What lies under the beliefs; raises CommandError if it cannot be used."""
        from beliefstream.streams.live.layers import FloorPlan, Layers

        try:
            plan = None if self.floor_plan is None else FloorPlan.read(self.floor_plan)
            return Layers(self.tiles, self.attribution, plan)
        except ValueError as error:
            raise CommandError(str(error)) from None


@grouped
def live(
    map: Map,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port; 0: any that is free")] = 8090,
    token: Annotated[
        str | None,
        typer.Option(
            help="to look and to send priors, 16 characters at least",
            show_default="of BELIEFSTREAM_WEB_TOKEN",
        ),
    ] = None,
    read_token: Annotated[
        str | None,
        typer.Option(help="to look only", show_default="of BELIEFSTREAM_LIVE_READ_TOKEN"),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="where a proxy serves the page, without path; may be repeated"),
    ] = None,
    brokers: Brokers = None,
) -> None:
    """Serve a page with a map of all beliefs, on which priors are drawn by mouse or finger.

    Example: beliefstream live --port 8090
    """
    import contextlib
    import signal

    import websockets  # noqa: F401  first, as only this extra installs it: its absence names the right one

    from beliefstream.streams.live.access import Access
    from beliefstream.streams.live.server import serve
    from beliefstream.streams.monitoring import logs
    from beliefstream.streams.settings.addresses import Address

    settings = settings_for(
        brokers,
        web_token=token,
        live_read_token=read_token,
    )
    secrets = settings.token, settings.token_of_readers
    require_token(secrets[0] or secrets[1], host, "give a --token or a --read-token too")
    axes, layers = map.axes(), map.layers()
    listening = listen(Address(host, port))

    def connected() -> None:
        print(f"live page: http://{Address(host, listening.getsockname()[1])}/", flush=True)
        logs.configure(settings.logs, settings.log_level)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does

    full, reader = (each.get_secret_value() if each else None for each in secrets)
    access = Access(full, origin or (), reader)
    with listening, contextlib.suppress(KeyboardInterrupt):
        serve(settings, listening, access, axes, layers, connected)
