"""`beliefstream sensors fit` of the topic of observations, and `sensors fit-files`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from beliefstream.streams.cli import options
from beliefstream.streams.cli.options import Brokers, Columns
from beliefstream.streams.cli.options.groups import grouped

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


@grouped
def fit_sensors(
    taken: Taken, stated: Stated, fitting: Fitting, fitted: Fitted, brokers: Brokers = None
) -> None:
    """Fit definitions to the topic of observations by their evidence, and print sensors as JSON lines.

    The stated deviation is the total: what of it is not independent lasts. docs/how-wrong-is-my-sensor.md explains it.
    Why each number is proposed stands on standard error. `sensors fit-files` fits to files, `sensors correct` corrects
    one running sensor.

    Example: beliefstream sensors fit --since 2h --picture residuals.png --apply
    """
    from beliefstream.streams.cli.definitions.fit_sources import Topic
    from beliefstream.streams.cli.definitions.sensors_fit import fit_recording

    fitted.keep(stated.sensors, stated.models)
    source = Topic(taken.limit, taken.entity or (), options.moment_since(taken.since))
    fit_recording(source, stated.sensors, stated.models, fitting, fitted, brokers)


@grouped
def fit_files(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="observations, as for `send`")],
    sensors: Annotated[str, typer.Option(metavar="FILE|JSON", help="JSON or YAML")],
    models: Annotated[str, typer.Option(metavar="FILE|JSON", help="JSON or YAML")],
    columns: Columns,
    fitting: Fitting,
    fitted: Fitted,
    brokers: Brokers = None,
) -> None:
    """Fit definitions to files of observations, as `sensors fit` does to their topic.

    Example: beliefstream sensors fit-files log.jsonl --sensors sensors.yaml --models models.yaml > fitted.jsonl
    """
    from beliefstream.streams.cli.definitions.fit_sources import Files
    from beliefstream.streams.cli.definitions.sensors_fit import fit_recording

    fitted.keep(*files, sensors, models, columns.mapping)
    source = Files(files, columns.read())
    fit_recording(source, sensors, models, fitting, fitted, brokers)
