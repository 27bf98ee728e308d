"""`beliefstream observe`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli.messages.posteriors import row
from beliefstream.streams.cli.options import Brokers, moment, numbers
from beliefstream.streams.cli.options.groups import grouped
from beliefstream.streams.cli.output import AsJson
from beliefstream.streams.cli.sending import SOURCE, TIMEOUT, Entity, When, report, sent
from beliefstream.streams.cli.setup import CommandError, opened, settings_for

if TYPE_CHECKING:
    from beliefstream.schemas import DeadLetter, Posterior
    from beliefstream.streams.client import DeadLetterConsumer, Place, PosteriorConsumer
    from beliefstream.streams.settings import Settings

POLL_SECONDS = 0.1  # for each of the two topics in turn
CONTROL_SECONDS = 3.0  # a control has no posterior; a dead letter would arrive within this time


@dataclass(frozen=True)
class Stated:
    """What the observation states besides its value."""

    time: When = None
    standard_deviation: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER[,...]",
            help="of the noise: one for all numbers, or one each",
            show_default="of the sensor's definition",
        ),
    ] = None
    id: Annotated[str | None, typer.Option(help="an identifier, which the posterior repeats")] = None


@dataclass(frozen=True)
class Waiting:
    """Whether the result is waited for, and how long."""

    timeout: Annotated[float, typer.Option(min=0, help="seconds to wait for the result")] = TIMEOUT
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="wait for its posterior or dead letter")] = (
        True
    )


@grouped
def observe(
    entity: Entity,
    sensor: Annotated[str, typer.Argument(metavar="SENSOR")],
    value: Annotated[list[str], typer.Argument(metavar="VALUE...", help="what the sensor reports")],
    as_json: AsJson,
    stated: Stated,
    waiting: Waiting,
    brokers: Brokers = None,
) -> None:
    """Send one observation, wait for its posterior and print it.

    Also prints topic and partition:offset of the observation. Exits with 1 and the reason if it becomes a dead letter,
    or if there is no result in time. With --no-wait it ends when the broker has accepted the observation.

    Example: beliefstream observe mower beacon-1 12.5 --standard-deviation 0.3
    """
    from beliefstream.streams.client import ObservationProducer

    reported = _one_or_all(numbers(",".join(value)))
    noise = None
    if stated.standard_deviation is not None:
        noise = _one_or_all(numbers(stated.standard_deviation))
    time, id = moment(stated.time), stated.id
    settings = settings_for(brokers)
    with opened(ObservationProducer, settings, settings.names.observations, source=SOURCE) as producer:
        if not waiting.wait:
            report(producer.send(entity, sensor, reported, time, noise, id=id))
            return
        control = is_control(settings, sensor)
        with _results(settings, entity) as wait_for:
            place = sent(producer.send(entity, sensor, reported, time, noise, id=id))
            where = f"{place.topic} {place.partition}:{place.offset}"
            print(where, file=sys.stderr if as_json else sys.stdout, flush=True)
            found = wait_for(place, id, min(waiting.timeout, CONTROL_SECONDS) if control else waiting.timeout)
    if found is None and control:
        print(
            f"{sensor} is a control: it moves the belief, but no posterior reports it alone", file=sys.stderr
        )
        return
    _print_result(found, where, as_json, waiting.timeout, id)


def _print_result(
    found: Posterior | DeadLetter | None, place: str, as_json: bool, timeout: float, id: str | None
) -> None:
    """Print the posterior; raise CommandError for a dead letter, or if there is no result."""
    from beliefstream.schemas import DeadLetter

    if isinstance(found, DeadLetter):
        raise CommandError(f"dead letter: {found.reason}: {found.detail} ({place})")
    if found is None:
        repeated = " An id that was applied before is dropped." if id is not None else ""
        raise CommandError(
            f"{place} was sent, but no posterior or dead letter came within {timeout:g} s; "
            f"is a worker running (beliefstream doctor)?{repeated}"
        )
    print(found.to_json().decode() if as_json else "  ".join(row(found)), flush=True)


def _one_or_all(numbers: list[float]) -> float | list[float]:
    return numbers[0] if len(numbers) == 1 else numbers


@contextmanager
def _results(
    settings: Settings, entity: str
) -> Iterator[Callable[[Place, str | None, float], Posterior | DeadLetter | None]]:
    """Yield `_wait` for an observation that is sent later; raises CommandError if its result cannot be read."""
    from kafka.errors import KafkaError

    from beliefstream.streams.client import (
        BrokerUnavailable,
        DeadLetterConsumer,
        PosteriorConsumer,
        TopicMissing,
    )

    with ExitStack() as stack:
        try:
            posteriors = opened(PosteriorConsumer, settings, settings.names.posteriors, entities=[entity])
            stack.enter_context(posteriors)
            letters = stack.enter_context(opened(DeadLetterConsumer, settings, settings.names.dead_letters))
        except (BrokerUnavailable, TopicMissing, KafkaError) as error:
            raise CommandError(f"nothing was sent: {error}; --no-wait sends without waiting") from None
        yield partial(_wait, posteriors, letters)


def _wait(
    posteriors: PosteriorConsumer, letters: DeadLetterConsumer, place: Place, id: str | None, timeout: float
) -> Posterior | DeadLetter | None:
    """Return the posterior or dead letter of the observation at `place`; None if neither arrives in time (s)."""
    name = id or f"{place.partition}:{place.offset}"
    deadline = time.monotonic() + timeout
    while True:
        for posterior in posteriors.poll(POLL_SECONDS):
            if name in posterior.applied:
                return posterior
        for received in letters.poll(POLL_SECONDS):
            if received.source == str(place):
                return received.letter
        if time.monotonic() > deadline:
            return None


def is_control(settings: Settings, sensor: str) -> bool:
    """Whether the sensor is a control, which has no posteriors; False if its definition cannot be read."""
    from kafka.errors import KafkaError

    from beliefstream.schemas import ControlSensor
    from beliefstream.streams.client import BrokerUnavailable, Registry, TopicMissing

    try:
        with opened(Registry, settings, settings.names.sensors, settings.names.models) as registry:
            return isinstance(registry.sensors().get(sensor), ControlSensor)
    except (BrokerUnavailable, TopicMissing, KafkaError):
        return False
