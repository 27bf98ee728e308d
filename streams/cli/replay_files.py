"""Replays a user's recording: a table of observations, definitions, and a truth if it is scored."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from beliefstream.streams.cli import options
from beliefstream.streams.cli.options import read_definitions
from beliefstream.streams.cli.sending import define, send
from beliefstream.streams.cli.setup import CommandError

if TYPE_CHECKING:
    from beliefstream.schemas import Model, Observation, Sensor
    from beliefstream.streams.bridges.mapping import ColumnMapping, Found
    from beliefstream.streams.bridges.tables import BagOptions, Table
    from beliefstream.streams.recordings import Recording
    from beliefstream.streams.settings import Settings


@dataclass(frozen=True)
class Offline:
    """Options of a replay without Kafka.

    Attributes:
        particles: of the particle filter; None if nothing is scored.
        seed: of the particle filter.
        wide_prior: whether the prior knows the place to 1 km only.
        limit: share of the scored part.
        out: file for the posteriors.
        report: file for the scores.
        health: whether to judge the sensors, instead of scoring posteriors.
        uncalibrated: whether they are judged without the calibration fitted to them.
    """

    particles: int | None
    seed: int
    wide_prior: bool
    limit: float
    out: Path | None
    report: Path | None
    health: bool = False
    uncalibrated: bool = False

    def fuse(self, settings: Settings, recordings: list[Recording]) -> None:
        """Fuse recordings in this process."""
        from beliefstream.streams.cli.replay_offline import fuse_recordings, judge_recordings
        from beliefstream.streams.recordings import limited, with_wide_prior, without_calibration
        from beliefstream.streams.recordings.scores.methods import classical

        chosen = [limited(recording, self.limit) for recording in recordings]
        wide = [with_wide_prior(part) for part in chosen] if self.wide_prior else chosen
        if self.health:
            judge_recordings(settings, map(without_calibration, wide) if self.uncalibrated else wide)
            return
        methods = classical(self.particles, self.seed) if self.particles is not None else None
        fuse_recordings(settings, wide, methods, self.out, self.report)


@dataclass(frozen=True)
class OwnFiles:
    """The files of a recording, and how they are read.

    Attributes:
        file: of the observations.
        format: of the observations; None: by the file's name.
        columns: of the observations.
        sensors: a source of definitions.
        models: a source of definitions.
        truth: file of the true states; None if they are not known.
        truth_map: its columns that are called otherwise, as `time=t`.
    """

    file: str
    format: options.FileFormat | None
    columns: ColumnMapping
    sensors: str | None
    models: str | None
    truth: str | None
    truth_map: tuple[str, ...]


def replay_files(
    settings: Settings, files: OwnFiles, offline: Offline | None, speed: float, force: bool
) -> None:
    """Fuse a recording in this process, or send it to Kafka with its times beginning now."""
    if files.sensors is None or files.models is None:
        raise CommandError(f"{files.file}: your own recording needs --sensors and --models")
    if offline is not None and files.truth is None:
        raise CommandError(
            f"{files.file}: --offline compares with a --truth; without: beliefstream fuse {files.file}"
        )
    sensors, models = _definitions(files.sensors, files.models)
    if offline is not None:
        offline.fuse(settings, _recordings(settings, files, sensors, models))
        return
    found = _observations(files)
    shift = time.time() - found[0].time
    define(settings, models, sensors, speed, force)
    moved = [each.model_copy(update={"time": each.time + shift}) for each in found]
    send(settings, moved, speed, f"replay {files.file}")


def _definitions(sensors: str, models: str) -> tuple[list[Sensor], list[Model]]:
    from beliefstream.schemas import Model, parse, parse_sensor
    from beliefstream.streams.bridges.definition_files import parse_definitions

    read = parse_definitions(read_definitions(sensors), parse_sensor)
    return read, parse_definitions(read_definitions(models), lambda raw: parse(Model, raw))


def _observations(files: OwnFiles) -> list[Observation]:
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
    settings: Settings, files: OwnFiles, sensors: list[Sensor], models: list[Model]
) -> list[Recording]:
    """A recording for each entity with a truth."""
    from beliefstream.streams.definitions import own_code
    from beliefstream.streams.recordings.own import model_of, read_truth, recordings_of, usable

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


def _found(files: OwnFiles) -> list[Found]:
    from beliefstream.streams.bridges.mapping import observations

    with closing(_table(files.file, files.format, files.columns.bag)) as table:
        return list(observations(table, files.columns))


def _table(file: str, format: options.FileFormat | None, bag: BagOptions | None = None) -> Table:
    from beliefstream.streams.bridges.tables import FileFormat, format_of, open_table

    return open_table(file, FileFormat(format) if format else format_of(file), bag)


def _split(option: str) -> tuple[str, str]:
    name, equals, column = option.partition("=")
    if not equals or not column:
        raise CommandError(f"--truth-map: expected FIELD=COLUMN, such as x=x_true, got {option!r}")
    return name, column
