"""`beliefstream replay`."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from beliefstream.streams.bridges.formats import FileFormat
from beliefstream.streams.cli import options
from beliefstream.streams.cli.options import Brokers, Table, keep_inputs, read_definitions
from beliefstream.streams.cli.options.groups import grouped
from beliefstream.streams.cli.output import loading
from beliefstream.streams.cli.sending import Force, Speed, define, send
from beliefstream.streams.cli.setup import CommandError, settings_for

if TYPE_CHECKING:
    from beliefstream.schemas import Model, Observation, Sensor
    from beliefstream.streams.bridges import rows
    from beliefstream.streams.bridges.mapping import ColumnMapping, Found
    from beliefstream.streams.scores.recording import Recording
    from beliefstream.streams.settings import Settings

Particles = Annotated[int, typer.Option(min=2, help="with --score: particles of the particle filter")]
Seed = Annotated[int, typer.Option(min=0, help="with --score: of the particle filter")]
AsJson = Annotated[bool, typer.Option("--json", help="with --score: JSON lines, not a table for people")]


class Files(NamedTuple):
    """The files of a recording, and how they are read."""

    file: str  # of the observations, as the next two
    format: FileFormat | None  # None: by the file's name
    columns: ColumnMapping
    truth: str | None  # file of the true states; None if they are not known
    truth_map: list[str]  # its columns that are called otherwise, as `time=t`


@dataclass(frozen=True)
class Scoring:
    """The true states, and what is fused and scored with them."""

    truth: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="CSV or Parquet with time and true coordinates, and entity"),
    ] = None
    truth_map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=COLUMN",
            help="the truth's column of time, entity or a coordinate",
            show_default="the column of its name",
        ),
    ] = None
    score: Annotated[
        bool,
        typer.Option(
            "--score",
            help="with --truth: score the posteriors, and those of Kalman and particle filters",
        ),
    ] = False
    particles: Particles = 10_000
    seed: Seed = 0
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--output",
            metavar="FILE",
            help="with --truth: posteriors; CSV, Parquet or MCAP by its name, JSON lines otherwise",
        ),
    ] = None
    as_json: AsJson = False

    def check(self) -> None:
        """Raise CommandError if an option lacks another one."""
        if self.truth is None and (self.score or self.out is not None):
            raise CommandError("--score and --out need --truth; `beliefstream fuse` needs none")
        if self.as_json and not self.score:
            raise CommandError("--json needs --score")


@dataclass(frozen=True)
class Sending:
    """How observations are sent."""

    speed: Speed = 16.0
    force: Force = False


@grouped
def replay(
    file: Annotated[str, typer.Argument(metavar="FILE", help="a table of observations, as for `send`")],
    sensors: Annotated[str, typer.Option(metavar="FILE|JSON", help="sensor definitions, JSON or YAML")],
    models: Annotated[str, typer.Option(metavar="FILE|JSON", help="model definitions, JSON or YAML")],
    sending: Sending,
    scoring: Scoring,
    table: Table,
    brokers: Brokers = None,
) -> None:
    """Replay your own recording: define its models and sensors, and send its observations.

    Recorded time begins now, so at a higher speed it runs ahead of the clock. Until the clock has caught up,
    observations of a second replay are late. With --truth it is fused in this process, without Kafka, and --score
    scores the coordinates in the truth.

    Example: beliefstream replay log.csv --sensors sensors.yaml --models models.yaml --speed 16

    Example: beliefstream replay log.csv --sensors sensors.yaml --models models.yaml --truth truth.csv --score
    """
    scoring.check()
    keep_inputs(scoring.out, file, sensors, models, scoring.truth, table.mapping)
    settings = settings_for(brokers)
    files = Files(file, table.file_format, table.read(), scoring.truth, scoring.truth_map or [])
    defined = _definitions(sensors, models)
    if scoring.truth is None:
        _send(settings, files, *defined, sending.speed, sending.force)
        return
    with loading():
        from beliefstream.streams.cli.offline.replay_scores import fuse_recordings
        from beliefstream.streams.scores.methods import classical

    methods = classical(scoring.particles, scoring.seed) if scoring.score else None
    recordings = _recordings(settings, files, *defined)
    fuse_recordings(settings, recordings, methods, scoring.out, scoring.as_json)


def _send(
    settings: Settings, files: Files, sensors: list[Sensor], models: list[Model], speed: float, force: bool
) -> None:
    """Send the observations to Kafka, with times that begin now."""
    observed = _observations(files)
    define(settings, models, sensors, speed, force)
    send(settings, observed, speed, f"replay {files.file}")


def _definitions(sensors: str, models: str) -> tuple[list[Sensor], list[Model]]:
    from beliefstream.schemas import Model, parse, parse_sensor
    from beliefstream.streams.bridges.definition_files import parse_definitions

    read = parse_definitions(read_definitions(sensors), parse_sensor)
    return read, parse_definitions(read_definitions(models), lambda raw: parse(Model, raw))


def _observations(files: Files) -> list[Observation]:
    """The observations of the file by time; raises CommandError if there is none."""
    from beliefstream.schemas import Unusable

    kept: list[Observation] = []
    for each in _found(files):
        if isinstance(each.observation, Unusable):
            options.tell(each)
        else:
            kept.append(each.observation)
    if not kept:
        raise CommandError(f"{files.file}: no row can be used; nothing was sent")
    return sorted(kept, key=lambda observation: observation.time)


def _recordings(
    settings: Settings, files: Files, sensors: list[Sensor], models: list[Model]
) -> list[Recording]:
    """A recording for each entity with a truth."""
    from beliefstream.streams.definitions import own_code
    from beliefstream.streams.scores.own import model_of, read_truth, recordings_of, usable

    own_code.load(settings.measurements)
    observed = usable(_found(files), sensors, models, options.tell)
    if not observed:
        raise CommandError(f"{files.file}: no row can be used; nothing was fused")
    entities = sorted({each.entity for each in observed})
    mapped = dict(_split(option) for option in files.truth_map)
    with closing(_table(str(files.truth), None)) as table:
        model, unit = model_of(entities[0], models), files.columns.time_unit
        scored, truth = read_truth(table, model, entities, mapped, unit, options.tell)
    return recordings_of(Path(files.file).name, observed, sensors, models, scored, truth)


def _found(files: Files) -> list[Found]:
    from beliefstream.streams.bridges.mapping import observations

    with closing(_table(files.file, files.format, files.columns.bag)) as table:
        return list(observations(table, files.columns))


def _table(file: str, format: FileFormat | None, bag: rows.BagOptions | None = None) -> rows.Table:
    from beliefstream.streams.bridges.tables import format_of, open_table

    return open_table(file, format or format_of(file), bag)


def _split(option: str) -> tuple[str, str]:
    name, equals, column = option.partition("=")
    if not equals or not column:
        raise CommandError(f"--truth-map: expected FIELD=COLUMN, such as x=x_true, got {option!r}")
    return name, column
