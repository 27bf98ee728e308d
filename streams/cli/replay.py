"""`beliefstream simulate` and `beliefstream replay`: send observations with a known truth, paced by their times."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli.common import Brokers, CommandError, progress_bar, settings_for

if TYPE_CHECKING:
    from beliefstream.schemas import Model, Observation, Sensor
    from beliefstream.streams.settings import Settings

SOURCE = "/beliefstream/cli"
Force = Annotated[
    bool, typer.Option("--force", help="replace definitions of these names that are there and differ")
]


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


def simulate(
    entities: Annotated[int, typer.Option(min=1, help="how many")] = 50,
    duration: Annotated[float, typer.Option(help="seconds of simulated time")] = 60.0,
    rate: Annotated[float, typer.Option(help="observations of each entity per second, on average")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="of the randomness")] = 0,
    speed: Annotated[
        float, typer.Option(min=0, help="times as fast as real time; 0: as fast as the broker takes it")
    ] = 1.0,
    force: Force = False,
    brokers: Brokers = None,
) -> None:
    """Simulate a fleet in a plane: defines its model (`*`) and sensors, and sends what they observe.

    Simulated time begins now.

    Example: beliefstream simulate --entities 50 --duration 60 --rate 2
    """
    from beliefstream.streams.local.simulated_fleet import simulate as simulate_fleet

    settings = settings_for(brokers)
    simulation = simulate_fleet(entities, duration, rate, seed, epoch=time.time())
    _define(settings, [simulation.model], simulation.sensors, speed, force)
    _send(settings, simulation.observations, speed, "simulate")


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
        float, typer.Option(min=0, help="times as fast as real time; 0: as fast as the broker takes it")
    ] = 16.0,
    entity: Annotated[
        str | None, typer.Option(help="what the entity is called", show_default="the recording's own")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="fuse here and now, without Kafka")] = False,
    score: Annotated[
        bool,
        typer.Option(
            "--score", help="with --offline: score them, beside extended Kalman filters and particles"
        ),
    ] = False,
    particles: Annotated[
        int, typer.Option(min=2, help="with --score: number of the particle filter's particles")
    ] = 10_000,
    seed: Annotated[int, typer.Option(min=0, help="with --score: of the particle filter")] = 0,
    tune: Annotated[
        bool, typer.Option("--tune", help="choose its settings once more, by its first third, and print them")
    ] = False,
    wide_prior: Annotated[
        bool, typer.Option("--wide-prior", help="with --offline: a prior that knows the place to 1 km only")
    ] = False,
    limit: Annotated[
        float, typer.Option(help="with --offline: share of the scored part to take, from its beginning")
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
            help="with --offline: posteriors, as JSON lines, or CSV or Parquet by its name",
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="with --score: the table, as JSON")
    ] = None,
    force: Force = False,
    brokers: Brokers = None,
) -> None:
    """Replay a recording of real sensors: defines its models and sensors, and sends what they observed.

    Recorded time begins now, so at a higher speed it runs ahead of the clock; what an entity is sent again
    before the clock has caught up is late. Replay again at once under another name (--entity).

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
        from beliefstream.streams.cli.scoring import tune_recording

        for name in names:
            tune_recording(settings, name, READERS[name], data)
        return
    if offline:
        from beliefstream.streams.cli.scoring import fuse_recordings
        from beliefstream.streams.recordings.scores.methods import classical

        chosen = [limited(read(name, **options), limit) for name in names]
        wide = [with_wide_prior(part) for part in chosen] if wide_prior else chosen
        fuse_recordings(settings, wide, classical(particles, seed) if score else None, out, json)
        return
    if len(names) > 1:
        raise CommandError("all of them are for --offline; onto topics, one at a time")
    shifted = read(names[0], **options)
    shifted = read(names[0], epoch=time.time() - shifted.observations[0].time, **options)
    _define(settings, shifted.models, shifted.sensors, speed, force)
    _send(settings, shifted.observations, speed, f"replay {recording.value}")


def _define(
    settings: Settings, models: Sequence[Model], sensors: Sequence[Sensor], speed: float, force: bool
) -> None:
    """Define models and sensors; times count as live unless they are sent faster than real time.

    Raises CommandError instead of replacing another definition, unless `force` is set; nothing is sent then.
    """
    from beliefstream.streams.client import DefinitionConflict, Registry

    models = [model.model_copy(update={"live_time": 0 < speed <= 1}) for model in models]

    with Registry(
        settings.brokers, settings.sensors, settings.models, source=SOURCE, **settings.client_options
    ) as registry:
        if not force:
            try:
                registry.define(sensors, models)
            except DefinitionConflict as conflict:
                raise CommandError(f"{conflict}; --force replaces them") from None
            return
        for sensor in sensors:
            registry.set_sensor(sensor)
        for model in models:
            registry.set_model(model)


def _send(settings: Settings, observations: Sequence[Observation], speed: float, title: str) -> None:
    """Send each observation when it is due; Ctrl-C ends it, and what was sent stays sent."""
    from beliefstream.streams.client import ObservationProducer

    began, first, sent = time.monotonic(), observations[0].time, 0
    with (
        ObservationProducer(
            settings.brokers, settings.observations, source=SOURCE, **settings.client_options
        ) as producer,
        progress_bar("observations") as progress,
    ):
        task = progress.add_task(title, total=len(observations), note="")
        try:
            for observation in observations:
                if speed > 0:
                    due = began + (observation.time - first) / speed
                    time.sleep(max(0.0, due - time.monotonic()))
                producer.send_message(observation)
                sent += 1
                progress.advance(task)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    seconds = time.monotonic() - began
    entities = len({observation.entity for observation in observations[:sent]})
    print(f"sent {sent} observations of {entities} entities in {seconds:.1f} s")
