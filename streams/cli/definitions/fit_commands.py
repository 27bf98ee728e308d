"""`beliefstream sensors fit` of the topic of observations, and `sensors fit-files`."""

from __future__ import annotations

from typing import Annotated

import typer

from beliefstream.streams.cli import options
from beliefstream.streams.cli.definitions.fit_options import Fitted, Fitting, Stated, Taken
from beliefstream.streams.cli.options import Brokers, Columns
from beliefstream.streams.cli.options.groups import grouped


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
