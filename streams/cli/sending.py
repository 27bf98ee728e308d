"""Sends the messages of commands: one, or many paced by their times."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli.output import counted, progress_bar
from beliefstream.streams.cli.setup import CommandError, opened

if TYPE_CHECKING:
    from beliefstream.schemas import Model, Observation, Sensor
    from beliefstream.streams.client.producers import Place
    from beliefstream.streams.settings import Settings

SOURCE = "/beliefstream/cli"
TIMEOUT = 30.0  # seconds to wait for the broker to take a message, or for a worker to answer

Entity = Annotated[str, typer.Argument(metavar="ENTITY")]
When = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="seconds since the epoch, or RFC 3339 with an offset", show_default="now"
    ),
]


def sent(future: Future[Place]) -> Place:
    try:
        return future.result(TIMEOUT)
    except TimeoutError:
        raise CommandError(f"the broker did not accept the message within {TIMEOUT:g} s") from None


def report(future: Future[Place]) -> None:
    """Wait for the broker, and print topic and partition:offset of the message."""
    place = sent(future)
    print(f"{place.topic} {place.partition}:{place.offset}")


Speed = Annotated[
    float, typer.Option(min=0, help="multiple of real time; 0: as fast as the broker accepts them")
]
Force = Annotated[
    bool, typer.Option("--force", help="replace existing definitions of the same names that differ")
]


def define(
    settings: Settings, models: Sequence[Model], sensors: Sequence[Sensor], speed: float, force: bool
) -> None:
    """Define models and sensors; times count as live unless they are sent faster than real time.

    Raises CommandError if another definition exists, unless `force` is set. Then nothing is sent.
    """
    from beliefstream.streams.client import DefinitionConflict, Registry

    models = [model.model_copy(update={"live_time": 0 < speed <= 1}) for model in models]

    with opened(Registry, settings, settings.names.sensors, settings.names.models, source=SOURCE) as registry:
        try:
            registry.define(sensors, models, replace=force)
        except DefinitionConflict as conflict:
            raise CommandError(f"{conflict}; --force replaces them") from None


def send(settings: Settings, observations: Sequence[Observation], speed: float, title: str) -> None:
    """Send each observation when it is due, with times that begin now, until Ctrl-C."""
    from beliefstream.streams.client import ObservationProducer

    first, sent = observations[0].time, 0
    with (
        opened(ObservationProducer, settings, settings.names.observations, source=SOURCE) as producer,
        progress_bar("observations") as progress,
    ):
        task = progress.add_task(title, total=len(observations), note="")
        began, shift = time.monotonic(), time.time() - first
        try:
            for observation in observations:
                if speed > 0:
                    due = began + (observation.time - first) / speed
                    time.sleep(max(0.0, due - time.monotonic()))
                producer.send_message(observation.model_copy(update={"time": observation.time + shift}))
                sent += 1
                progress.advance(task)
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
    seconds = time.monotonic() - began
    entities = len({observation.entity for observation in observations[:sent]})
    print(f"sent {counted(sent, 'observation')} of {counted(entities, 'entity')} in {seconds:.1f} s")
