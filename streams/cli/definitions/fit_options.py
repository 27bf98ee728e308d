"""Options of `beliefstream sensors fit` and `fit-files`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from beliefstream.streams.cli import options

MOST = 10_000  # observations of a topic, without --limit


@dataclass(frozen=True)
class Taken:
    """Which observations of the topic are taken."""

    entity: Annotated[
        list[str] | None, typer.Option(metavar="ENTITY", help="only of this entity; may be repeated")
    ] = None
    since: options.Since = None
    limit: Annotated[int, typer.Option(min=1, help="only this many, the newest")] = MOST


@dataclass(frozen=True)
class Stated:
    """Which definitions are fitted."""

    sensors: Annotated[
        str | None, typer.Option(metavar="FILE|JSON", help="JSON or YAML", show_default="of their topic")
    ] = None
    models: Annotated[
        str | None, typer.Option(metavar="FILE|JSON", help="JSON or YAML", show_default="of their topic")
    ] = None


@dataclass(frozen=True)
class Fitting:
    """How definitions are fitted."""

    share: Annotated[
        float, typer.Option(min=0.1, max=0.9, help="share that is fitted to; the rest is kept apart")
    ] = 0.5
    scale: Annotated[
        bool, typer.Option("--scale", help="correct the scale of distances too, where predictions tell it")
    ] = False
    each: Annotated[
        bool, typer.Option("--each", help="noise of each sensor, not one for all of its kind")
    ] = False
    modes: Annotated[
        bool, typer.Option("--modes", help="try modes of the motion noise, for models that state none")
    ] = False


@dataclass(frozen=True)
class Fitted:
    """What is done with fitted definitions, besides that sensors are printed."""

    models_out: Annotated[Path | None, typer.Option(metavar="FILE", help="fitted models, JSON lines")] = None
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="residuals before and after, PNG, SVG or PDF by its name"),
    ] = None
    apply: Annotated[
        bool, typer.Option("--apply", help="set what was fitted, unless the fit warns; says how to undo it")
    ] = False
    apply_anyway: Annotated[
        bool,
        typer.Option("--apply-anyway", help="set it even if the fit warns, or definitions have changed"),
    ] = False

    def keep(self, *inputs: str | Path | None) -> None:
        """Raise CommandError if a file to write is one of the inputs."""
        for out in (self.models_out, self.picture):
            options.keep_inputs(out, *inputs)
