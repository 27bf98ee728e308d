"""`beliefstream observe` and `beliefstream prior`: one message."""

from __future__ import annotations

import math
import sys
import time as clock
from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli.common import (
    Brokers,
    CommandError,
    Format,
    Formatted,
    moment,
    numbers,
    read_source,
    resolve,
    settings_for,
)
from beliefstream.streams.cli.observation_result import CONTROL_SECONDS, ObservationResult, is_control
from beliefstream.streams.cli.posteriors import row

if TYPE_CHECKING:
    from beliefstream.schemas import DeadLetter, Mixture, Posterior, Prior
    from beliefstream.streams.client.publishing import Place
    from beliefstream.streams.settings import Settings

SOURCE = "/beliefstream/cli"
TIMEOUT = (
    30.0  # seconds until a message that the broker has not taken, or no worker has answered, is an error
)
prior = typer.Typer(name="prior", help="Tell what is known of an entity.")


class Mode(Enum):
    """How a prior changes the belief."""

    replace = "replace"
    product = "product"


Entity = Annotated[str, typer.Argument(metavar="ENTITY")]
When = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="seconds since the epoch, or RFC 3339 with an offset", show_default="now"
    ),
]


def observe(
    entity: Entity,
    sensor: Annotated[str, typer.Argument(metavar="SENSOR")],
    value: Annotated[list[str], typer.Argument(metavar="VALUE...", help="what the sensor reports")],
    time: When = None,
    standard_deviation: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER[,...]",
            help="of the noise: one for all numbers, or one each",
            show_default="of the sensor's definition",
        ),
    ] = None,
    id: Annotated[str | None, typer.Option(help="an identifier, which the posterior repeats")] = None,
    timeout: Annotated[float, typer.Option(min=0, help="seconds to wait for what becomes of it")] = TIMEOUT,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="for its posterior or dead letter")] = True,
    format: Formatted = None,
    brokers: Brokers = None,
) -> None:
    """Send one observation and wait for its posterior, which is printed.

    Prints where the broker put the observation too: topic, partition:offset. Exits with 1 and the reason if it
    becomes a dead letter, and if neither comes in time. With --no-wait it ends when the broker has the observation.

    Example: beliefstream observe mower beacon-1 12.5 --standard-deviation 0.3
    """
    from beliefstream.streams.client import ObservationProducer

    reported = _one_or_all(numbers(",".join(value)))
    noise = None if standard_deviation is None else _one_or_all(numbers(standard_deviation))
    settings = settings_for(brokers)
    with ObservationProducer(
        settings.brokers, settings.observations, source=SOURCE, **settings.client_options
    ) as producer:
        if not wait:
            report(producer.send(entity, sensor, reported, moment(time), noise, id=id))
            return
        control = is_control(settings, sensor)
        with ObservationResult(settings, entity) as outcome:
            place = _sent(producer.send(entity, sensor, reported, moment(time), noise, id=id))
            shape = resolve(format)
            where = f"{place.topic} {place.partition}:{place.offset}"
            print(where, file=sys.stderr if shape is Format.json else sys.stdout, flush=True)
            found = outcome.wait(place, id, min(timeout, CONTROL_SECONDS) if control else timeout)
    if found is None and control:
        print(
            f"{sensor} is a control: it moves the belief, and no posterior tells of it alone", file=sys.stderr
        )
        return
    _print_result(found, where, shape, timeout, id)


def _print_result(
    found: Posterior | DeadLetter | None, place: str, shape: Format, timeout: float, id: str | None
) -> None:
    """Print the posterior; raise CommandError for a dead letter, or if there is no result."""
    from beliefstream.schemas import DeadLetter

    if isinstance(found, DeadLetter):
        raise CommandError(f"dead letter: {found.reason}: {found.detail} ({place})")
    if found is None:
        repeated = "; an id that was applied before is dropped" if id is not None else ""
        raise CommandError(
            f"{place} was sent, and within {timeout:g} s neither a posterior nor a dead letter came of it: "
            f"is a worker running (beliefstream doctor){repeated}?"
        )
    print(found.to_json().decode() if shape is Format.json else "  ".join(row(found)), flush=True)


def _one_or_all(numbers: list[float]) -> float | list[float]:
    return numbers[0] if len(numbers) == 1 else numbers


@prior.command("set")
def set_prior(
    entity: Entity,
    mean: Annotated[str | None, typer.Option(metavar="NUMBER,...", help="of one Gaussian")] = None,
    standard_deviation: Annotated[
        str | None, typer.Option(metavar="NUMBER[,...]", help="of one Gaussian: one for all, or one each")
    ] = None,
    mixture: Annotated[
        str | None,
        typer.Option(metavar="FILE|-|JSON", help="weights, means and covariances, in place of one Gaussian"),
    ] = None,
    coordinates: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="that it is over", show_default="all, in the model's order"),
    ] = None,
    mode: Annotated[Mode, typer.Option(help="put in the belief's place, or multiplied in")] = Mode.replace,
    time: When = None,
    id: Annotated[str | None, typer.Option(help="an identifier of your own")] = None,
    brokers: Brokers = None,
) -> None:
    """Replace the belief about an entity, or multiply in what is known of it.

    It takes effect at its time, with the first observation that is not older. What does not fit the entity's model
    is not sent.

    Example: beliefstream prior set mower --mean 1,2 --standard-deviation 3,3 --coordinates x,y
    """
    from beliefstream.schemas import Prior
    from beliefstream.streams.client import PriorPublisher

    stated = Prior.model_validate(
        {
            "entity": entity,
            "mixture": _mixture(mean, standard_deviation, mixture),
            "time": clock.time() if time is None else moment(time),
            "mode": mode.value,
            "coordinates": None if coordinates is None else tuple(coordinates.split(",")),
            "id": id,
        }
    )
    settings = settings_for(brokers)
    _check_fits(stated, settings)
    with PriorPublisher(
        settings.brokers, settings.priors, source=SOURCE, **settings.client_options
    ) as publisher:
        report(publisher.send_message(stated))


def _check_fits(prior: Prior, settings: Settings) -> None:
    """Raise Unusable if the prior does not fit the entity's model; print a note if no model can be found or read."""
    from kafka.errors import AuthorizationError

    from beliefstream.streams.client import Registry, TopicMissing

    registry = Registry(settings.brokers, settings.sensors, settings.models, **settings.client_options)
    try:
        models = registry.models()
    except (AuthorizationError, TopicMissing) as error:
        print(f"not checked against the entity's model: {error}", file=sys.stderr)
        return
    model = models.get(prior.entity) or models.get("*")
    if model is not None:
        prior.check_fits(model.coordinate_names)
        return
    warning = (
        f"no model of {prior.entity!r} and none for *: a worker that reads it before there is one refuses it"
    )
    print(warning, file=sys.stderr)


def _mixture(mean: str | None, standard_deviation: str | None, mixture: str | None) -> Mixture:
    from beliefstream.schemas import Mixture, parse

    gaussian = mean is not None or standard_deviation is not None
    if (mixture is not None) == gaussian or (mean is None) != (standard_deviation is None):
        raise CommandError("give --mean and --standard-deviation, or --mixture")
    if mixture is not None:
        return parse(Mixture, read_source(mixture))
    assert mean is not None
    assert standard_deviation is not None
    point = _checked("--mean", mean, "finite", math.isfinite)
    deviations = _checked(
        "--standard-deviation", standard_deviation, "positive finite", lambda each: 0 < each < math.inf
    )
    if len(deviations) not in (1, len(point)):
        raise CommandError(f"--standard-deviation: expected 1 or {len(point)} numbers, got {len(deviations)}")
    return Mixture.gaussian(point, deviations * (len(point) if len(deviations) == 1 else 1))


def _checked(option: str, text: str, kind: str, holds: Callable[[float], bool]) -> list[float]:
    """Parse the numbers; raises CommandError if one of them is not of the kind."""
    found = numbers(text)
    if not all(map(holds, found)):
        raise CommandError(f"{option}: expected {kind} numbers, got {text!r}")
    return found


def _sent(sent: Future[Place]) -> Place:
    try:
        return sent.result(TIMEOUT)
    except TimeoutError:
        raise CommandError(f"the broker has not taken the message within {TIMEOUT:g} s") from None


def report(sent: Future[Place]) -> None:
    place = _sent(sent)
    print(f"{place.topic} {place.partition}:{place.offset}")
