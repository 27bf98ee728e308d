"""`beliefstream replay`."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from beliefstream.streams.cli.command_settings import settings_for
from beliefstream.streams.cli.errors import CommandError
from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.paced_sending import Force, define, send


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
        RecordingName,
        typer.Argument(
            help="plaza1, plaza2: ranges to a lawn mower; uwb_planar: to a turning body; mrclam_robot1: landmarks and "
            "odometry; ble_rssi, ble_straight: signal strength; laser_radar: places and echoes; ais_solent: 91 "
            "ships; all of them"
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
            "--score", help="with --offline: score the posteriors, and those of Kalman and particle filters"
        ),
    ] = False,
    particles: Annotated[
        int, typer.Option(min=2, help="with --score: particles of the particle filter")
    ] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="with --score: of the particle filter")] = 0,
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
        Path | None, typer.Option(metavar="FILE", help="with --offline: posteriors, as JSON lines")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="with --score: the table, as JSON")
    ] = None,
    force: Force = False,
    brokers: Brokers = None,
) -> None:
    """Replay a recording of real sensors: define its models and sensors, and send their observations.

    Recorded time begins now, so at a higher speed it runs ahead of the clock. Until the clock has caught up,
    observations of a second replay are late. To replay again at once, use another name (--entity).

    Example: beliefstream replay plaza1 --speed 16

    Example: beliefstream replay plaza2 --offline --score

    Example: beliefstream replay all --offline --score --json scores.json

    Example: beliefstream replay ble_rssi --offline --score --particles 100000
    """
    from beliefstream.streams.recordings import READERS, limited, read, with_wide_prior

    if not offline and (score or out is not None or wide_prior or limit != 1):
        raise CommandError("--score, --out, --wide-prior and --limit need --offline")
    if json is not None and not score:
        raise CommandError("--json needs --score")
    names = [recording.value] if recording is not RecordingName.all else list(READERS)
    settings = settings_for(brokers)
    options = {"data": data} | ({"entity": entity} if entity is not None else {})
    if tune:
        from beliefstream.streams.cli.replay_offline import tune_recording

        for name in names:
            tune_recording(settings, name, READERS[name], data)
        return
    if offline:
        from beliefstream.streams.cli.replay_offline import fuse_recordings
        from beliefstream.streams.recordings.scores.methods import classical

        chosen = [limited(read(name, **options), limit) for name in names]
        wide = [with_wide_prior(part) for part in chosen] if wide_prior else chosen
        fuse_recordings(settings, wide, classical(particles, seed) if score else None, out, json)
        return
    if len(names) > 1:
        raise CommandError("'all' needs --offline; replay onto topics one recording at a time")
    shifted = read(names[0], **options)
    shifted = read(names[0], epoch=time.time() - shifted.observations[0].time, **options)
    define(settings, shifted.models, shifted.sensors, speed, force)
    send(settings, shifted.observations, speed, f"replay {recording.value}")
