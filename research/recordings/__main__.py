"""`python -m research.recordings`: replays recordings of real sensors, as `beliefstream replay` does your own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from beliefstream.streams.cli.main import run
from beliefstream.streams.cli.offline.replay import AsJson, Particles, Seed
from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.output import loading
from beliefstream.streams.cli.sending import Force, Speed, define, send
from beliefstream.streams.cli.setup import CommandError, settings_for

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


ALL = "all"  # recordings


@app.command()
def replay(
    recording: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="plaza1, plaza2: ranges to a lawn mower; uwb_planar: to a turning body; mrclam_robot1: landmarks and "
            "odometry; ble_rssi, ble_straight: signal strength; laser_radar: places and echoes; ais_solent: 91 "
            "ships; all of them",
        ),
    ],
    speed: Speed = 16.0,
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
    fit: Annotated[
        str | None,
        typer.Option(
            help="with --score, `evidence`: settings by the evidence of the first third, beside those of the truth"
        ),
    ] = None,
    particles: Particles = 10_000,
    seed: Seed = 0,
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
    as_json: AsJson = False,
    force: Force = False,
    brokers: Brokers = None,
) -> None:
    """Replay a recording of real sensors: define its models and sensors, and send their observations.

    Recorded time begins now, so at a higher speed it runs ahead of the clock. Until the clock has caught up,
    observations of a second replay are late. To replay again at once, use another name (--entity).

    Example: python -m research.recordings plaza1 --speed 16

    Example: python -m research.recordings plaza2 --offline --score

    Example: python -m research.recordings plaza2 --offline --score --fit evidence

    Example: python -m research.recordings all --offline --score --json > scores.jsonl

    Example: python -m research.recordings mrclam_robot1 --offline --health --uncalibrated

    Example: python -m research.recordings ble_rssi --offline --score --particles 100000
    """
    if not offline and (score or health or out is not None or limit != 1):
        raise CommandError("--score, --health, --out and --limit need --offline")
    if health and (score or out is not None):
        raise CommandError("--health comes without --score and --out")
    if uncalibrated and not health:
        raise CommandError("--uncalibrated needs --health")
    if fit is not None and (fit != "evidence" or not score):
        raise CommandError(f"--fit takes `evidence`, and needs --score; got {fit!r}")
    if as_json and not (score or health):
        raise CommandError("--json needs --score or --health")
    if recording == ALL and not (offline or tune):
        raise CommandError("'all' needs --offline; replay onto topics one recording at a time")
    with loading():
        from beliefstream.streams.cli.offline.replay_scores import fuse_recordings
        from beliefstream.streams.scores.methods import classical
        from research.recordings.checks import fitted_parts, judge, tuned
        from research.recordings.parts import limited, without_calibration
        from research.recordings.readers import READERS, read

    settings = settings_for(brokers)
    if recording not in (*READERS, ALL):
        raise CommandError(f"expected one of {', '.join(READERS)} or {ALL}, got {recording!r}")
    names = [recording] if recording != ALL else list(READERS)
    if tune:
        for name in names:
            tuned(settings, name, READERS[name], data)
        return
    chosen = {"data": data} | ({"entity": entity} if entity is not None else {})
    found = [read(name, **chosen) for name in names]
    if not offline:
        define(settings, found[0].models, found[0].sensors, speed, force)
        send(settings, found[0].observations, speed, f"replay {names[0]}")
        return
    parts = [limited(each, limit) for each in found]
    if health:
        judge(settings, map(without_calibration, parts) if uncalibrated else parts, as_json)
    else:
        parts += fitted_parts(settings, names, data, limit) if fit else []
        fuse_recordings(settings, parts, classical(particles, seed) if score else None, out, as_json)


if __name__ == "__main__":
    run(app, "python -m research.recordings", sys.argv[1:])
