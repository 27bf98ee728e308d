"""`beliefstream replay`."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli import options
from beliefstream.streams.cli.options import Brokers, keep_inputs
from beliefstream.streams.cli.replay_files import Offline, OwnFiles, replay_files
from beliefstream.streams.cli.sending import Force, define, send
from beliefstream.streams.cli.setup import CommandError, settings_for

if TYPE_CHECKING:
    from beliefstream.streams.settings import Settings


class RecordingName(StrEnum):
    """Names of the recordings, and `all`."""

    plaza1 = "plaza1"
    plaza2 = "plaza2"
    uwb_planar = "uwb_planar"
    mrclam_robot1 = "mrclam_robot1"
    ble_rssi = "ble_rssi"
    ble_straight = "ble_straight"
    laser_radar = "laser_radar"
    ais_solent = "ais_solent"
    all = "all"


def replay(
    recording: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            help="plaza1, plaza2: ranges to a lawn mower; uwb_planar: to a turning body; mrclam_robot1: landmarks and "
            "odometry; ble_rssi, ble_straight: signal strength; laser_radar: places and echoes; ais_solent: 91 "
            "ships; all of them; or a table of your own observations",
        ),
    ],
    speed: Annotated[
        float, typer.Option(min=0, help="multiple of real time; 0: as fast as the broker accepts them")
    ] = 16.0,
    entity: Annotated[
        str | None, typer.Option(help="name of the entity", show_default="the recording's name")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="fuse in this process, without Kafka")] = False,
    score: Annotated[
        bool,
        typer.Option(
            "--score",
            help="with --offline or --truth: score the posteriors, and those of Kalman and particle filters",
        ),
    ] = False,
    particles: Annotated[
        int, typer.Option(min=2, help="with --score: particles of the particle filter")
    ] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="with --score: of the particle filter")] = 0,
    health: Annotated[
        bool,
        typer.Option("--health", help="with --offline: print the health of the sensors instead of scores"),
    ] = False,
    uncalibrated: Annotated[
        bool,
        typer.Option(
            "--uncalibrated", help="with --health: distances without the scale and bias fitted to them"
        ),
    ] = False,
    tune: Annotated[
        bool, typer.Option("--tune", help="tune the recording's settings on its first third, and print them")
    ] = False,
    wide_prior: Annotated[
        bool, typer.Option("--wide-prior", help="with --offline: use a prior 1 km wide in position")
    ] = False,
    limit: Annotated[
        float, typer.Option(help="with --offline: share of the scored part to use, from its beginning")
    ] = 1.0,
    data: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="of the data", show_default="of BELIEFSTREAM_DATA")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--output",
            metavar="FILE",
            help="with --offline: posteriors; CSV, Parquet or MCAP by its name, JSON lines otherwise",
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="with --score: the table, as JSON")
    ] = None,
    sensors: Annotated[
        str | None, typer.Option(metavar="FILE|JSON", help="of FILE: sensor definitions, JSON or YAML")
    ] = None,
    models: Annotated[
        str | None, typer.Option(metavar="FILE|JSON", help="of FILE: model definitions, JSON or YAML")
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="of FILE: CSV or Parquet with time and true coordinates, and entity"
        ),
    ] = None,
    truth_map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=COLUMN",
            help="the truth's column of time, entity or a coordinate",
            show_default="the column of its name",
        ),
    ] = None,
    map: options.Map = None,
    set: options.Set = None,
    mapping: options.MappingFile = None,
    time_unit: options.Unit = None,
    file_format: options.Formatted = None,
    force: Force = False,
    brokers: Brokers = None,
) -> None:
    """Replay a recording of real sensors: define its models and sensors, and send their observations.

    Recorded time begins now, so at a higher speed it runs ahead of the clock. Until the clock has caught up,
    observations of a second replay are late. To replay again at once, use another name (--entity).

    Your own recording is a table, as for `beliefstream send`, with --sensors and --models. With --truth it is fused
    without Kafka, and --score scores the coordinates in the truth.

    Example: beliefstream replay plaza1 --speed 16

    Example: beliefstream replay plaza2 --offline --score

    Example: beliefstream replay all --offline --score --json scores.json

    Example: beliefstream replay mrclam_robot1 --offline --health --uncalibrated

    Example: beliefstream replay ble_rssi --offline --score --particles 100000

    Example: beliefstream replay log.csv --sensors sensors.yaml --models models.yaml --truth truth.csv --score
    """
    from beliefstream.streams.bridges.mapping import ColumnMapping

    offline = offline or truth is not None
    if not offline and (score or health or out is not None or wide_prior or limit != 1):
        raise CommandError("--score, --health, --out, --wide-prior and --limit need --offline")
    if health and (score or out is not None):
        raise CommandError("--health comes without --score and --out")
    if uncalibrated and not health:
        raise CommandError("--uncalibrated needs --health")
    if json is not None and not score:
        raise CommandError("--json needs --score")
    for written in (out, json):
        keep_inputs(written, recording, sensors, models, truth, mapping)
    settings = settings_for(brokers)
    stated = (
        Offline(particles if score else None, seed, wide_prior, limit, out, json, health, uncalibrated)
        if offline
        else None
    )
    columns = options.column_mapping(map, set, mapping, time_unit)
    files = OwnFiles(recording, file_format, columns, sensors, models, truth, tuple(truth_map or ()))
    if recording in {each.value for each in RecordingName}:
        if files != OwnFiles(recording, None, ColumnMapping(), None, None, None, ()):
            raise CommandError(f"{recording} has sensors, models and a truth: those options are for a FILE")
        _replay_built_in(settings, recording, entity, data, tune, stated, speed, force)
        return
    if tune or entity is not None or data is not None:
        raise CommandError(
            "--tune, --entity and --data are for the recordings that come with Beliefstream: "
            f"{', '.join(RecordingName)}"
        )
    if not Path(recording).exists():
        raise CommandError(f"{recording}: neither a file nor one of {', '.join(RecordingName)}")
    replay_files(settings, files, stated, speed, force)


def _replay_built_in(
    settings: Settings,
    recording: str,
    entity: str | None,
    data: Path | None,
    tune: bool,
    offline: Offline | None,
    speed: float,
    force: bool,
) -> None:
    from beliefstream.streams.recordings import READERS, read

    names = [recording] if recording != RecordingName.all else list(READERS)
    options = {"data": data} | ({"entity": entity} if entity is not None else {})
    if tune:
        from beliefstream.streams.cli.replay_offline import tune_recording

        for name in names:
            tune_recording(settings, name, READERS[name], data)
        return
    if offline is not None:
        offline.fuse(settings, [read(name, **options) for name in names])
        return
    if len(names) > 1:
        raise CommandError("'all' needs --offline; replay onto topics one recording at a time")
    shifted = read(names[0], **options)
    shifted = read(names[0], epoch=time.time() - shifted.observations[0].time, **options)
    define(settings, shifted.models, shifted.sensors, speed, force)
    send(settings, shifted.observations, speed, f"replay {recording}")
