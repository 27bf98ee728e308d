"""Fits noise and motion of definitions to a recording by its evidence alone.

Factors of stated numbers are searched in logarithms: of the standard deviation and the outlier probability of each kind
of sensor, of each noise of the motion, of the time that a mode of it lasts and, where asked for, of the scale of
distances. Each has a Gaussian prior around what is stated. The deviation of a sensor whose observations all state their
own noise is not used by any of them, so it stays as it is, and nothing lasts.

Innovations do not show an error that the position absorbs, so persistent errors that the evidence finds freely are too
small, and beliefs too certain. So the total deviation is the stated one, as of a data sheet, the evidence finds the
independent part, and the rest lasts: ``persistent² = stated² − independent²``. Where more is independent than was
stated, nothing lasts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from beliefstream.inference.update.settings import ROUGH
from beliefstream.inference.update.updater import Updater
from beliefstream.streams.fitting.evidence import Array, Definitions, Recorded, evidence
from beliefstream.streams.fitting.factors import (
    PLAIN,
    Factors,
    Form,
    Parameter,
    lasting,
    own_noise,
    parameters,
    prepared,
    proposed,
    without_modes,
    without_outliers,
)
from beliefstream.streams.fitting.halves import ratio_by_halves

CORRELATION_TIMES = (2.0, 5.0, 20.0)  # s, that are tried
LEAST = 40  # observations for each parameter
FURTHEST = 3.0  # of these deviations, at most
FIRST_STEP, NEXT_STEP = 0.5, 0.15  # of these deviations: from what is stated, from what was found
EVALUATIONS = 40  # for each parameter
TOLERANCE = 0.2  # nats
FITTED = "fitted"  # the trial where nothing lasts
MODES_GAIN = 10.0  # nats of the first part, from which modes are proposed


class Trial(NamedTuple):
    """Evidence of definitions, nats for each observation: of the part they were fitted to, and of that kept apart."""

    name: str
    first: float
    apart: float


@dataclass(frozen=True)
class Fit:
    """Fitted definitions, the factors that were found, and the evidence with and without each part of the error.

    `ratio_by_halves` is that of `halves.ratio_by_halves`. `modes_gain` is by how many nats `MODES` raise the sum of
    evidence and log prior of the first part; None if they were not tried.
    """

    definitions: Definitions
    factors: Factors
    correlation_time: float | None
    trials: tuple[Trial, ...]
    ratio_by_halves: float | None
    form: Form = PLAIN
    modes_gain: float | None = None

    def applied(self, stated: Definitions) -> Definitions:
        """What other stated definitions, of the same kinds of sensors, become by the factors."""
        return proposed(prepared(stated, self.form), self.factors, self.correlation_time, self.form)

    @property
    def independent(self) -> Trial:
        """The trial where nothing lasts, with modes if they are proposed."""
        return self._trial(_name(self.form))

    @property
    def proposed(self) -> Trial:
        """The trial of the definitions that are proposed."""
        time = self.correlation_time
        return self.independent if time is None else self._trial(_name(self.form, time, again=True))

    def _trial(self, name: str) -> Trial:
        return next(each for each in self.trials if each.name == name)


class _Found(NamedTuple):
    """The best definitions of one form, with the sum of their evidence and log prior, nats, and what was tried."""

    definitions: Definitions
    form: Form
    factors: Factors
    time: float | None
    nats: float
    tried: dict[str, Definitions]


def fit(
    stated: Definitions,
    recorded: Recorded,
    updater: Updater,
    *,
    times: Sequence[float] = CORRELATION_TIMES,
    scale: bool = False,
    each: bool = False,
    modes: bool = False,
    note: Callable[[str], None] = lambda _: None,
) -> Fit:
    """Fit definitions to the first part of a recording.

    Args:
        stated: total deviations, outliers and motion to start from. Errors that last are replaced, but for constants
            and those beside a covariance or observations that state their noise.
        recorded: observations of at least `LEAST` for each parameter before its split.
        updater: of the filter; definitions are compared with `ROUGH` settings.
        times: correlation times that are tried, in seconds; none: no error lasts.
        scale: whether the scales of distances are fitted too.
        each: whether each sensor has its own noise, instead of one for all of its kind.
        modes: whether to try `MODES` of the motion noise for models that state none, and propose them if they raise the
            evidence by `MODES_GAIN`.
        note: is told what begins, and the evidence and prior of each step of a search.

    Raises:
        ValueError: there are too few observations, or the filter found no finite beliefs with any definitions.
    """
    first, counts, quick = recorded.first(), recorded.counts(stated.sensors), updater.with_settings(ROUGH)

    def run(form: Form) -> _Run:
        return _Run(prepared(stated, form), form, first, quick, times, scale, note)

    form = Form(each, own_noise(first))
    plain, with_modes = run(form), run(Form(each, form.own_noise, modes=True))
    taken = modes and with_modes.stated != plain.stated
    (with_modes if taken else plain).require_enough(counts[0])
    found, gain = plain.fitted(), None
    tried = {"as stated": plain.stated} | found.tried
    if taken:
        note("modes of the motion noise")
        other = with_modes.fitted(found.factors)
        tried, gain = tried | other.tried, other.nats - found.nats
        found = other if gain > MODES_GAIN else found
    note("both parts")
    nats = evidence(list(tried.values()), recorded, quick) / np.maximum(counts, 1)
    trials = tuple(Trial(name, *row) for name, row in zip(tried, nats.tolist(), strict=True))
    note("check by halves")
    ratio = ratio_by_halves(found.definitions, recorded, quick)
    return Fit(found.definitions, found.factors, found.time, trials, ratio, found.form, gain)


@dataclass(frozen=True)
class _Run:
    """Fits definitions of one form; the other arguments are those of `fit`."""

    stated: Definitions
    form: Form
    first: Recorded
    updater: Updater
    times: Sequence[float]
    scale: bool
    note: Callable[[str], None]

    @property
    def wanted(self) -> list[Parameter]:
        return parameters(
            self.stated, self.scale, self.form, {each.sensor for each in self.first.observations}
        )

    def require_enough(self, count: int) -> None:
        wanted = len(self.wanted)
        if not wanted:
            raise ValueError("the observations use no number that can be fitted; nothing is proposed")
        if count < LEAST * wanted:
            raise ValueError(
                f"{count} observations before the split are too few to fit {wanted} numbers: "
                f"{LEAST * wanted} are needed, {LEAST} for each; nothing is proposed"
            )

    def fitted(self, start: Factors | None = None) -> _Found:
        """Return the best definitions: with independent errors and, where some of what is stated is left, the rest."""
        self.note("independent errors")
        begin = dict.fromkeys(self.wanted, 1.0) | dict(start or {})
        factors, nats = self._search(None, begin, NEXT_STEP if start else FIRST_STEP)
        name, alone = _name(self.form), self._proposed(factors, None)
        tried = {name: alone}
        if any(parameter.field == "outlier_probability" for parameter in factors):
            tried[f"{name}, without outliers"] = without_outliers(alone)
        if not self.form.modes and any(model.modes for model in alone.models):
            tried[f"{name}, without modes"] = without_modes(alone)
        with_rest = {time: lasting(self.stated, alone, time) for time in self.times}
        if all(found == alone for found in with_rest.values()):
            return _Found(alone, self.form, factors, None, nats, tried)
        tried |= {_name(self.form, time): found for time, found in with_rest.items()}
        self.note("errors that last")
        gains = evidence(list(with_rest.values()), self.first, self.updater)[:, 0]
        time = self.times[int(gains.argmax())]
        factors, nats = self._search(time, factors, NEXT_STEP)
        found = self._proposed(factors, time)
        tried[_name(self.form, time, again=True)] = found
        return _Found(found, self.form, factors, time, nats, tried)

    def _proposed(self, factors: Factors, time: float | None) -> Definitions:
        return proposed(self.stated, factors, time, self.form)

    def _search(self, time: float | None, start: Factors, step: float) -> tuple[Factors, float]:
        def evidence_of(some: Sequence[Factors]) -> Array:
            tried = [self._proposed(factors, time) for factors in some]
            return evidence(tried, self.first, self.updater)[:, 0]

        return _search(self.wanted, start, step, evidence_of, self.note)


def _name(form: Form, time: float | None = None, *, again: bool = False) -> str:
    name = FITTED + " again" * again + ", with modes" * form.modes
    return name if time is None else f"{name}, the rest lasts {time:g} s"


def _search(
    wanted: Sequence[Parameter],
    start: Factors,
    step: float,
    evidence_of: Callable[[Sequence[Factors]], Array],
    note: Callable[[str], None],
) -> tuple[Factors, float]:
    """Return the factors with the largest sum of evidence and log prior that CMA-ES finds, and that sum, nats.

    It needs no derivatives, which the decisions of a filter do not have (N. Hansen, "The CMA evolution strategy: a
    tutorial", arXiv 1604.00772), and the filter takes its whole generation as entities of one log.
    """
    import cma  # imported here, as only a fit needs it

    spreads = np.array([parameter.spread for parameter in wanted])

    def factors(place: Array) -> Factors:
        return dict(zip(wanted, np.exp(spreads * place).tolist(), strict=True))

    begin = np.log([start[parameter] for parameter in wanted]) / spreads
    options = {"seed": 1, "tolfun": TOLERANCE, "maxfevals": EVALUATIONS * len(wanted), "verbose": -9}
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
    return factors(search.best.x), -search.best.f
