"""`beliefstream prior`."""

from __future__ import annotations

import math
import sys
import time as clock
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli.options import Brokers, moment, numbers, read_source
from beliefstream.streams.cli.options.groups import grouped
from beliefstream.streams.cli.sending import SOURCE, Entity, When, report
from beliefstream.streams.cli.setup import CommandError, opened, settings_for

if TYPE_CHECKING:
    from beliefstream.schemas import Mixture, Prior
    from beliefstream.streams.settings import Settings

prior = typer.Typer(name="prior", help="State what is known about an entity.")


class Mode(Enum):
    """How a prior changes the belief."""

    replace = "replace"
    product = "product"


@dataclass(frozen=True)
class Stated:
    """What is known."""

    mean: Annotated[str | None, typer.Option(metavar="NUMBER,...", help="of one Gaussian")] = None
    standard_deviation: Annotated[
        str | None, typer.Option(metavar="NUMBER[,...]", help="of one Gaussian: one for all, or one each")
    ] = None
    mixture: Annotated[
        str | None,
        typer.Option(metavar="FILE|-|JSON", help="weights, means and covariances, instead of one Gaussian"),
    ] = None
    coordinates: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...", help="coordinates of the prior", show_default="all, in the model's order"
        ),
    ] = None


@prior.command("set")
@grouped
def set_prior(
    entity: Entity,
    stated: Stated,
    mode: Annotated[
        Mode, typer.Option(help="replace the belief, or multiply it by the prior")
    ] = Mode.replace,
    time: When = None,
    id: Annotated[str | None, typer.Option(help="your identifier of the prior")] = None,
    brokers: Brokers = None,
) -> None:
    """Replace the belief about an entity, or multiply it by what else is known.

    The prior takes effect at its time, with the first observation that is not older. A prior that does not fit the
    entity's model is not sent.

    Example: beliefstream prior set mower --mean 1,2 --standard-deviation 3,3 --coordinates x,y
    """
    from beliefstream.schemas import Prior
    from beliefstream.streams.client import PriorPublisher

    coordinates = stated.coordinates
    made = Prior.model_validate(
        {
            "entity": entity,
            "mixture": _mixture(stated.mean, stated.standard_deviation, stated.mixture),
            "time": clock.time() if time is None else moment(time),
            "mode": mode.value,
            "coordinates": None if coordinates is None else tuple(coordinates.split(",")),
            "id": id,
        }
    )
    settings = settings_for(brokers)
    _check_fits(made, settings)
    with opened(PriorPublisher, settings, settings.names.priors, source=SOURCE) as publisher:
        report(publisher.send_message(made))


def _check_fits(prior: Prior, settings: Settings) -> None:
    """Raise Unusable if the prior does not fit the entity's model; print a note if no model can be found or read."""
    from kafka.errors import AuthorizationError

    from beliefstream.streams.client import Registry, TopicMissing

    registry = opened(Registry, settings, settings.names.sensors, settings.names.models)
    try:
        models = registry.models()
    except (AuthorizationError, TopicMissing) as error:
        print(f"not checked against the entity's model: {error}", file=sys.stderr)
        return
    model = models.get(prior.entity) or models.get("*")
    if model is not None:
        prior.check_fits(model.coordinate_names)
        return
    warning = f"no model of {prior.entity!r} and none for *: a worker refuses the prior until one is defined"
    print(warning, file=sys.stderr)


def _mixture(mean: str | None, standard_deviation: str | None, mixture: str | None) -> Mixture:
    from beliefstream.schemas import Mixture, parse

    if mixture is not None and mean is None and standard_deviation is None:
        return parse(Mixture, read_source(mixture))
    if mixture is not None or mean is None or standard_deviation is None:
        raise CommandError("give --mean and --standard-deviation, or --mixture")
    point = _checked("--mean", mean, "finite", math.isfinite)
    deviations = _checked(
        "--standard-deviation", standard_deviation, "positive finite", lambda each: 0 < each < math.inf
    )
    if len(deviations) not in (1, len(point)):
        raise CommandError(f"--standard-deviation: expected 1 or {len(point)} numbers, got {len(deviations)}")
    return Mixture.gaussian(point, deviations * (len(point) if len(deviations) == 1 else 1))


def _checked(option: str, text: str, kind: str, holds: Callable[[float], bool]) -> list[float]:
    """Parse the numbers; raises CommandError unless all of them are of that kind."""
    found = numbers(text)
    if not all(map(holds, found)):
        raise CommandError(f"{option}: expected {kind} numbers, got {text!r}")
    return found
