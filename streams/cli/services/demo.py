"""`beliefstream demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# 1 932 s of recording in 81 s: with startup and comparison, about two minutes
SPEED = 24.0


def demo(
    speed: Annotated[
        float, typer.Option(min=0.1, help="multiple of real time at which the recording is replayed")
    ] = SPEED,
    entities: Annotated[int, typer.Option(min=2, help="entities of the simulated fleet")] = 50,
    duration: Annotated[
        float | None, typer.Option(min=5, help="seconds", show_default="duration of the whole recording")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="leave the broker and the worker running at the end")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a picture of the run to this PNG file")
    ] = None,
    page: Annotated[bool, typer.Option("--page/--no-page", help="serve the live page too")] = True,
) -> None:
    """Show everything on this machine: broker, worker, page, a real recording and a fleet, checked at the end.

    Example: beliefstream demo --duration 30 --picture demo.png
    """
    import logging
    import signal
    import sys

    import structlog
    from rich.console import Console

    from beliefstream.streams.cli.setup import settings_for

    settings = settings_for()
    # the demo reports a changed port itself, and log lines would break the live view
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if picture is not None:
        check_picture(picture)
    console = Console()
    console.print("loading  PyTorch, Faust and the recording")

    def terminate(*_: object) -> None:
        sys.exit(143)  # an exception, so that all started processes are ended

    signal.signal(signal.SIGTERM, terminate)
    from beliefstream.streams.demo.background import Background

    background = Background() if keep else None  # it forks, so it must start before any thread
    from beliefstream.streams.demo.session import DemoSession, Options

    with DemoSession(Options(speed, entities, duration, picture, page), settings, console) as session:
        session.run(background)


def check_picture(picture: Path) -> None:
    """Raise RuntimeError if the picture cannot be written; otherwise the error would come after two minutes."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise RuntimeError("a picture needs matplotlib: pip install 'beliefstream[demo]'")
    if not picture.absolute().parent.is_dir():
        raise RuntimeError(f"no such directory: {picture.absolute().parent}")
