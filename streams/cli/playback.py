"""`beliefstream simulate` and `beliefstream replay`: observations with a known truth, sent as time goes by."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.common import Brokers, CommandError, progress_bar, settings_for

if TYPE_CHECKING:
    from schemas import Model, Observation, Sensor
    from streams.settings import Settings

SOURCE = "/beliefstream/cli"


class RecordingName(StrEnum):
    """The recordings there are."""

    plaza1 = "plaza1"
    plaza2 = "plaza2"


def simulate(
    entities: Annotated[int, typer.Option(min=1, help="how many")] = 50,
    duration: Annotated[float, typer.Option(help="seconds of simulated time")] = 60.0,
    rate: Annotated[float, typer.Option(help="observations of each entity per second, on average")] = 2.0,
    seed: Annotated[int, typer.Option(min=0, help="of the randomness")] = 0,
    speed: Annotated[
        float, typer.Option(min=0, help="times as fast as real time; 0: as fast as the broker takes it")
    ] = 1.0,
    brokers: Brokers = None,
) -> None:
    """Simulate a fleet in a plane: defines its model (`*`) and sensors, and sends what they observe.

    Simulated time begins now.

    Example: beliefstream simulate --entities 50 --duration 60 --rate 2
    """
    from streams.simulation import simulate as run

    settings = settings_for(brokers)
    simulation = run(entities, duration, rate, seed, epoch=time.time())
    _define(settings, simulation.model, simulation.sensors)
    _send(settings, simulation.observations, speed, "simulate")


def replay(
    recording: Annotated[RecordingName, typer.Argument(help="plaza1: a lawn mower, 32 min; plaza2: 7 min")],
    speed: Annotated[
        float, typer.Option(min=0, help="times as fast as real time; 0: as fast as the broker takes it")
    ] = 16.0,
    entity: Annotated[str, typer.Option(help="what the robot is called")] = "mower",
    offline: Annotated[bool, typer.Option("--offline", help="fuse here and now, without Kafka")] = False,
    score: Annotated[
        bool, typer.Option("--score", help="with --offline: compare with the truth, beside EKF and particles")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="with --offline: posteriors, as JSON lines")
    ] = None,
    brokers: Brokers = None,
) -> None:
    """Replay a recording of ultra-wideband ranges: defines its model and sensors, and sends what they observed.

    Recorded time begins now, so at a higher speed it runs ahead of the clock; what an entity is sent again
    before the clock has caught up is late. Replay again at once under another name (--entity).

    Example: beliefstream replay plaza1 --speed 16

    Example: beliefstream replay plaza2 --offline --score
    """
    from streams.recordings import plaza

    if not offline and (score or out is not None):
        raise CommandError("--score and --out need --offline")
    settings = settings_for(brokers)
    if offline:
        from streams.cli.scoring import fuse_recording

        fuse_recording(settings, plaza(recording.value, entity), score, out)
        return
    recorded = plaza(recording.value, entity)
    shifted = plaza(recording.value, entity, epoch=time.time() - recorded.observations[0].time)
    _define(settings, shifted.model, shifted.sensors)
    _send(settings, shifted.observations, speed, f"replay {recording.value}")


def _define(settings: Settings, model: Model, sensors: Sequence[Sensor]) -> None:
    from streams.client import Registry

    with Registry(settings.brokers, settings.sensors, settings.models, source=SOURCE) as registry:
        for sensor in sensors:
            registry.set_sensor(sensor)
        registry.set_model(model)


def _send(settings: Settings, observations: Sequence[Observation], speed: float, title: str) -> None:
    """Each when it is due; Ctrl-C ends it, and what was sent until then stays sent."""
    from streams.client import ObservationProducer

    began, first, sent = time.monotonic(), observations[0].time, 0
    with (
        ObservationProducer(settings.brokers, settings.observations, source=SOURCE) as producer,
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
