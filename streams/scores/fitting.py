"""Fits noise and motion of definitions to a recording by its evidence alone.

Factors of stated numbers are searched in logarithms: of the standard deviation and the outlier probability of each kind
of sensor, of each noise of the motion and, where asked for, of the scale of distances. Each has a Gaussian prior around
what is stated.

Innovations do not show an error that the position absorbs, so persistent errors that the evidence finds freely are too
small, and beliefs too certain. So the total deviation is the stated one, as of a data sheet, the evidence finds the
independent part, and the rest lasts: ``persistent² = stated² − independent²``. Where more is independent than was
stated, nothing lasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from beliefstream.inference.update.settings import ROUGH
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import RangeChannel, Sensor, parse_sensor
from beliefstream.schemas.sensors.base import Lasting
from beliefstream.streams.scores.evidence import Array, Definitions, Recorded, evidence
from beliefstream.streams.scores.halves import ratio_by_halves

CORRELATION_TIMES = (2.0, 5.0, 20.0)  # s, that are tried
LEAST = 40  # observations for each parameter
SPREAD, SCALE_SPREAD = 1.5, 0.05  # prior deviation of the log of a factor, and of that of a scale
FURTHEST = 3.0  # of these deviations, at most
FIRST_STEP, NEXT_STEP = 0.5, 0.15  # of these deviations: from what is stated, from what was found
EVALUATIONS = 40  # for each parameter
TOLERANCE = 0.2  # nats
MOST_OUTLIERS = 0.5
MOTION = "motion"
FITTED = "fitted"  # the trial where nothing lasts


class Parameter(NamedTuple):
    """A number that sensors of one group, or the models, have in common: a factor of what each of them states."""

    group: str
    field: str

    @property
    def spread(self) -> float:
        """Prior deviation of its logarithm."""
        return SCALE_SPREAD if self.field == "scale" else SPREAD


Factors = Mapping[Parameter, float]


class Trial(NamedTuple):
    """Evidence of definitions, nats for each observation: of the part they were fitted to, and of that kept apart."""

    name: str
    first: float
    apart: float


@dataclass(frozen=True)
class Fit:
    """Fitted definitions, the factors that were found, and the evidence with and without each part of the error.

    `ratio_by_halves` is that of `halves.ratio_by_halves`. `each` says whether each sensor has its own factors.
    """

    definitions: Definitions
    factors: Factors
    correlation_time: float | None
    trials: tuple[Trial, ...]
    ratio_by_halves: float | None
    each: bool

    def applied(self, stated: Definitions) -> Definitions:
        """What other stated definitions, of the same kinds of sensors, become by the factors."""
        return _proposed(_totals(stated), self.factors, self.correlation_time, self.each)


def fit(
    stated: Definitions,
    recorded: Recorded,
    updater: Updater,
    *,
    times: Sequence[float] = CORRELATION_TIMES,
    scale: bool = False,
    each: bool = False,
    seed: int = 0,
    note: Callable[[str], None] = lambda _: None,
) -> Fit:
    """Fit definitions to the first part of a recording.

    Args:
        stated: total deviations, outliers and motion to start from. Errors that last are replaced, but for constants
            and those beside a covariance.
        recorded: observations of at least `LEAST` for each parameter before its split.
        updater: of the filter; definitions are compared with `ROUGH` settings.
        times: correlation times that are tried, in seconds; none: no error lasts.
        scale: whether the scales of distances are fitted too.
        each: whether each sensor has its own noise, instead of one for all of its kind.
        seed: of the search.
        note: is told what begins, and the evidence and prior of each step of a search.

    Raises:
        ValueError: there are too few observations, or the filter found no finite beliefs with any definitions.
    """
    stated = _totals(stated)
    wanted, counts = _parameters(stated, scale, each), recorded.counts(stated.sensors)
    if counts[0] < LEAST * len(wanted):
        raise ValueError(
            f"{counts[0]} observations before the split are too few to fit {len(wanted)} numbers: "
            f"{LEAST * len(wanted)} are needed, {LEAST} for each; nothing is proposed"
        )
    first = recorded.first()
    quick = updater.with_settings(ROUGH)

    def fitted(time: float | None, start: Factors, step: float) -> Factors:
        def evidence_of(some: Sequence[Factors]) -> Array:
            return _tried(stated, some, time, each, first, quick)

        return _search(wanted, start, step, evidence_of, note, seed)

    note("independent errors")
    factors = fitted(None, dict.fromkeys(wanted, 1.0), FIRST_STEP)
    alone = scaled(stated, factors, each)
    tried = {"as stated": stated, FITTED: alone}
    if any(parameter.field == "outlier_probability" for parameter in wanted):
        tried["fitted, without outliers"] = scaled(stated, factors, each, without_outliers=True)
    with_rest = {time: lasting(stated, alone, time) for time in times}
    chosen = None
    if any(found != alone for found in with_rest.values()):
        tried |= {f"fitted, the rest lasts {time:g} s": found for time, found in with_rest.items()}
        note("errors that last")
        gains = evidence(list(with_rest.values()), first, quick)[:, 0]
        chosen = times[int(gains.argmax())]
        factors = fitted(chosen, factors, NEXT_STEP)
        tried[f"fitted again, the rest lasts {chosen:g} s"] = _proposed(stated, factors, chosen, each)
    note("both parts")
    nats = evidence(list(tried.values()), recorded, quick) / np.maximum(counts, 1)
    trials = tuple(Trial(name, *row) for name, row in zip(tried, nats.tolist(), strict=True))
    note("check by halves")
    definitions = _proposed(stated, factors, chosen, each)
    return Fit(definitions, factors, chosen, trials, ratio_by_halves(definitions, recorded, quick), each)


def _tried(
    stated: Definitions,
    some: Sequence[Factors],
    time: float | None,
    each: bool,
    first: Recorded,
    updater: Updater,
) -> Array:
    return evidence([_proposed(stated, factors, time, each) for factors in some], first, updater)[:, 0]


def _proposed(stated: Definitions, factors: Factors, time: float | None, each: bool) -> Definitions:
    alone = scaled(stated, factors, each)
    return alone if time is None else lasting(stated, alone, time)


def _search(
    wanted: Sequence[Parameter],
    start: Factors,
    step: float,
    evidence_of: Callable[[Sequence[Factors]], Array],
    note: Callable[[str], None],
    seed: int,
) -> Factors:
    """Return the factors with the largest sum of evidence and log prior that CMA-ES finds.

    It needs no derivatives, which the decisions of a filter do not have (N. Hansen, "The CMA evolution strategy: a
    tutorial", arXiv 1604.00772), and the filter takes its whole generation as entities of one log.
    """
    import cma  # imported here, as only a fit needs it

    spreads = np.array([parameter.spread for parameter in wanted])

    def factors(place: Array) -> Factors:
        return dict(zip(wanted, np.exp(spreads * place).tolist(), strict=True))

    begin = np.log([start[parameter] for parameter in wanted]) / spreads
    # of a seed of 0, cma takes the clock
    options = {"seed": seed + 1, "tolfun": TOLERANCE, "maxfevals": EVALUATIONS * len(wanted), "verbose": -9}
    search = cma.CMAEvolutionStrategy(begin, step, options)
    while not search.stop():
        places = np.clip(search.ask(), -FURTHEST, FURTHEST)
        losses = 0.5 * np.square(places).sum(1) - evidence_of([factors(place) for place in places])
        search.tell(list(places), np.where(np.isfinite(losses), losses, np.inf).tolist())
        note(f"{-search.best.f:.1f} nats")
    if not math.isfinite(search.best.f):
        raise ValueError(
            "the filter found no finite beliefs with any of the definitions; nothing is proposed"
        )
    return factors(search.best.x)


def _parameters(stated: Definitions, scale: bool, each: bool) -> list[Parameter]:
    """The numbers to fit: those that are stated and not 0."""
    found: dict[Parameter, None] = {}
    for sensor in stated.sensors:
        for group, field, part in _numbers(sensor, sensor.model_dump(mode="json", exclude_none=True), each):
            takes_scale = scale and isinstance(part, RangeChannel)
            for name in ("standard_deviation", "outlier_probability", *(("scale",) if takes_scale else ())):
                if np.any(field.get(name) or (name == "standard_deviation" and field.get("covariance"))):
                    found[Parameter(group, name)] = None
    for model in stated.models:
        found |= {Parameter(MOTION, name): None for name in model.motion.noises}
    return list(found)


def _numbers(sensor: Sensor, fields: dict[str, Any], each: bool) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """The group of each number that a sensor reports, its fields, and its definition."""
    own = getattr(sensor, "measurement", None)
    group = sensor.sensor if each else f"{sensor.kind} {own}" if own else sensor.kind
    if not sensor.parts:
        yield group, fields, sensor
    for name, part in sensor.parts.items():
        yield f"{group}.{name}", fields[name], part


def scaled(
    stated: Definitions, factors: Factors, each: bool = False, *, without_outliers: bool = False
) -> Definitions:
    """Return the definitions with their numbers multiplied by factors."""
    sensors = []
    for sensor in stated.sensors:
        fields = sensor.model_dump(mode="json", exclude_none=True)
        for group, field, _ in _numbers(sensor, fields, each):
            noise = factors.get(Parameter(group, "standard_deviation"), 1.0)
            _multiply(field, "standard_deviation", noise)
            _multiply(field, "covariance", noise**2)
            _multiply(field, "scale", factors.get(Parameter(group, "scale"), 1.0))
            outliers = factors.get(Parameter(group, "outlier_probability"), 1.0)
            _multiply(field, "outlier_probability", 0.0 if without_outliers else outliers, MOST_OUTLIERS)
        sensors.append(parse_sensor(fields))
    models = []
    for model in stated.models:
        motion = {name: factors.get(Parameter(MOTION, name), 1.0) for name in model.motion.noises}
        models.append(model.model_copy(update={"motion": model.motion.with_noise(motion)}))
    return Definitions(tuple(sensors), tuple(models))


def _multiply(fields: dict[str, Any], name: str, factor: float, most: float = math.inf) -> None:
    if fields.get(name) is not None and factor != 1.0:
        fields[name] = np.minimum(factor * np.array(fields[name]), most).tolist()


def _totals(stated: Definitions) -> Definitions:
    """Return the definitions with the errors that last counted as independent ones.

    Constants stay, and so do errors beside a covariance, of which nothing is made to last.
    """
    sensors = []
    for sensor in stated.sensors:
        fields = sensor.model_dump(mode="json", exclude_none=True)
        for _, field, _ in _numbers(sensor, fields, each=False):
            if "standard_deviation" in field and (lasting := field.pop("persistent_deviation", None)):
                del field["correlation_time"]
                field["standard_deviation"] = math.hypot(field["standard_deviation"], lasting)
        sensors.append(parse_sensor(fields))
    return Definitions(tuple(sensors), stated.models)


def lasting(stated: Definitions, independent: Definitions, time: float) -> Definitions:
    """Return the definitions whose stated deviation that is not independent lasts for a correlation time, seconds."""
    sensors = []
    for sensor, total in zip(independent.sensors, stated.sensors, strict=True):
        fields = sensor.model_dump(mode="json", exclude_none=True)
        whole = [
            field for _, field, _ in _numbers(total, total.model_dump(mode="json", exclude_none=True), False)
        ]
        for (_, field, part), of in zip(_numbers(sensor, fields, False), whole, strict=True):
            deviation = field.get("standard_deviation")
            if not isinstance(part, Lasting) or deviation is None or field.get("noise") is not None:
                continue
            if (rest := of["standard_deviation"] ** 2 - deviation**2) > 0:
                field |= {"persistent_deviation": math.sqrt(rest), "correlation_time": time}
        sensors.append(parse_sensor(fields))
    return Definitions(tuple(sensors), independent.models)
