"""Filtering again from a prior in parts, for entities that move and were silent.

After a silence a belief is as wide as a range bends across it. Whichever few Gaussians an update keeps, the far end of
the ring is lost, and may be what later reports confirm. Here the belief before the first of them is divided into
narrower Gaussians at even steps, by the trapezoidal rule. Each part is filtered alone through all
reports since, by the same steps as any belief, and the results are added up by their evidence. A part is so narrow that
its update loses nothing far; no approximation is new.

Only parts that matter in the end are filtered. They are found on a finer lattice, by the likelihood of all reports
together, smoothed over its cells and the way that the entity may have moved since the first report.

It is done where a report is surprising, for sensors that see one or two coordinates, with noise alone. What is found is
used if it has the evidence that the whole belief finds on the same way: one that was carried within the window is found
by light components alone.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from beliefstream.inference.likelihood.native_observations import smoothed
from beliefstream.inference.likelihood.native_terms import Seen, rows_of
from beliefstream.inference.likelihood.observations import LIKELIHOOD, LINEAR, Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture, beside, component_log_density
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import expanded
from beliefstream.inference.tracking.accumulated_error import AccumulatedErrors
from beliefstream.inference.tracking.events import Array, Belief, Step, single_belief
from beliefstream.inference.tracking.outcomes import Outcome
from beliefstream.inference.tracking.prediction import predict, without_expired
from beliefstream.inference.tracking.recovery.history import MOST_INSTANTS
from beliefstream.inference.tracking.recovery.light_components import heavy_part, joined
from beliefstream.inference.update.closed.reduction_cost import condense
from beliefstream.inference.update.settings import MOST_TOGETHER
from beliefstream.inference.update.updater import Updater

# These were set on the drifting kinds of docs/adversarial.md.
SURPRISING = 0.005  # p-value of a report, below which it may mean another place
NARROWER = 0.5  # standard deviation of a part, of its component's
STEP = 1.6 * NARROWER  # between parts, whose sum is off by .6 % for each coordinate
FINE = 0.2  # step of the finer lattice
REACH = 9.0  # standard deviations of the belief, within which places are looked for
SPARSE = 64  # of the finer lattice's points, the first look takes one
LIKELY = 10.0  # nats below the best place, above which a place matters
SHARE = 0.02  # of the density at such a place, above which a part matters
MOST_COMPONENTS, MERGED_BELOW = 4, 0.01  # of the belief that is divided, and nats that merging them may cost
MOST_PARTS = 256
FORGOTTEN = 25.0  # nats of evidence below the best part, where a part is not filtered any further
KNOWN = 1e-9  # variance of a place that is known, of the belief's
LOST = 0.5  # nats of evidence that the parts may lack beside the whole

Filter = Callable[[Sequence[Step]], list[Outcome]]


class Filters(NamedTuple):
    """What advances beliefs: those of parts, and whole ones, with doubt and light components."""

    parts: Filter
    whole: Filter


def refiltered(
    steps: Sequence[Step], outcomes: Sequence[Outcome], updater: Updater, filters: Filters
) -> dict[int, Outcome]:
    """Return outcomes from a prior in parts where these are due and possible, by place in `steps`.

    `outcomes` are those of the instants alone, whose evidence, p-values and fits remain.
    """
    runs = {}
    for i, (step, alone) in enumerate(zip(steps, outcomes, strict=True)):
        window = _window(step, alone.p_value)
        divided = _divided(window) if window else None
        if divided is not None:
            runs[i] = _Run.of(window, divided)
    _filter(list(runs.values()), filters)
    found = {}
    for i, run in runs.items():
        outcome = _joined(run, updater.with_components(steps[i].model.components))
        if outcome is not None:
            alone = outcomes[i]
            kept = {"log_evidence": alone.log_evidence, "p_value": alone.p_value, "fits": alone.fits}
            found[i] = replace(outcome, **kept)
    return found


def _window(step: Step, p_value: float) -> list[Step]:
    """Return the steps since the silence, with the belief before it; none if there is nothing to do."""
    earlier = step.earlier
    if earlier is None or not earlier.number or not step.instant.readings or step.model.motion.is_static:
        return []
    if earlier.number >= MOST_INSTANTS or not p_value < SURPRISING or step.model.modes:
        return []
    if without_expired(step).belief is None:
        return []
    before, instants = earlier.before(), earlier.read()
    if instants is None or before is None or before.control is not None or before.hidden.errors:
        return []
    instants = [*instants, step.instant]
    readings = [expanded(instant.readings) for instant in instants]
    sensors = {each.sensor for some in readings for each in some}
    if not all(readings) or sum(map(len, readings)) > MOST_TOGETHER:
        return []
    if any(sensor.kind == LIKELIHOOD or sensor.errors for sensor in sensors):
        return []
    return [Step(heavy_part(before), step.model, instant) for instant in instants]


class _Divided(NamedTuple):
    """A belief and its parts, at one time; each part is one Gaussian."""

    whole: GaussianMixture
    parts: GaussianMixture  # (1, P), with weights that sum to less than one


def _divided(window: Sequence[Step]) -> _Divided | None:
    """Return the belief at the first instant and those of its parts that matter; None if it cannot be divided."""
    whole = reduce(predict(window[:1]), MOST_COMPONENTS, MERGED_BELOW).normalised()
    # the reports of each step, as those of an entity of its own
    observations = encode([expanded(step.instant.readings) for step in window], whole.dimension)
    touched = (observations.matrix != 0).any(2) | (observations.heading != 0)
    axes = torch.nonzero((touched & observations.mask[..., None]).any((0, 1)))[:, 0].tolist()
    if observations.native is None or len(axes) > 2:
        return None
    parts, narrow = _lattice(whole, axes)
    marginal = whole.marginal(axes)
    fine, cell = _places(marginal)
    log_prior = marginal.log_density(fine)
    likely = _likely(log_prior[0], fine[0], _ways(window, whole, axes, observations, cell))
    each = component_log_density(fine[:, likely], narrow.means, narrow.factors())[0]  # (P, F)
    logs = each + narrow.log_weights[0, :, None] - log_prior[0, likely]
    matters = torch.nonzero((logs > math.log(SHARE)).any(1))[:, 0]
    return _Divided(whole, parts.places(matters[None])) if 0 < len(matters) <= MOST_PARTS else None


@functools.cache
def _steps(count: int, size: int, step: float) -> Tensor:
    """Points ``(P, size)`` at even steps, as far as `count` from zero."""
    line = step * torch.arange(-count, count + 1, dtype=torch.float64)
    points = torch.tensor(list(itertools.product(line.tolist(), repeat=size)), dtype=torch.float64)
    return points[la.squared_norm(points) <= (count * step) ** 2]


def _lattice(whole: GaussianMixture, axes: Sequence[int]) -> tuple[GaussianMixture, GaussianMixture]:
    """Divide each component along the coordinates `axes`; return the parts, and their marginals there."""
    points, size = _steps(math.floor(REACH / STEP), len(axes), STEP), len(axes)
    rest = 1 - NARROWER**2
    logs = -0.5 * la.squared_norm(points) / rest + size * (
        math.log(STEP) - 0.5 * (LOG_TWO_PI + math.log(rest))
    )
    marginal = whole.marginal(axes)
    factors, covariances = marginal.factors()[0], marginal.covariances[0]
    gain = whole.covariances[0][..., axes] @ la.invert(covariances)  # (K, D, d)
    offsets = la.times(factors[:, None], points)  # (K, P, d)
    means = whole.means[0, :, None] + la.times(gain[:, None], offsets)
    narrowed = whole.covariances[0] - rest * gain @ covariances @ gain.mT
    log_weights = whole.log_weights[0, :, None] + logs
    count = len(points)
    parts = GaussianMixture(
        log_weights.flatten()[None],
        means.flatten(0, 1)[None],
        la.symmetrise(narrowed).repeat_interleave(count, 0)[None],
    )
    return parts, parts.marginal(axes)


def _places(marginal: GaussianMixture) -> tuple[Tensor, Tensor]:
    """Return the points of the finer lattice over a belief ``(1, F, d)``, and the factor of a cell ``(d, d)``."""
    mean, covariance = marginal.moments()
    factor = la.cholesky(covariance)[0]
    points = _steps(math.floor(REACH / FINE), marginal.dimension, FINE)
    return (mean + la.times(factor, points))[None], FINE * factor


class _Ways(NamedTuple):
    """Where an entity may have gone from a place, and what was reported from there."""

    offsets: Tensor  # (N, 1, d), from a place to the mean at each instant
    frames: Tensor  # (N, 1, d, d), factors of the cell and of the way there
    seen: Seen  # of N entities, the reports of each instant


def _ways(
    window: Sequence[Step], whole: GaussianMixture, axes: Sequence[int], seen: Observations, cell: Tensor
) -> _Ways:
    mean, covariance = (part[0] for part in whole.moments())
    gain = covariance[:, axes] @ la.invert(covariance[axes][:, axes][None])[0]
    # of an entity whose place is known, nearly
    rest = la.symmetrise(covariance - (1 - KNOWN) * gain @ covariance[axes])
    known = Belief(window[0].instant.time, np.ones(1), mean[None].numpy(), rest[None].numpy())
    ways = predict([replace(step, belief=known) for step in window]).marginal(axes)
    seen = dataclasses.replace(seen, matrix=seen.matrix[..., axes], heading=seen.heading[..., axes])
    return _Ways(ways.means - mean[axes], la.cholesky(ways.covariances + cell @ cell.mT), seen.numbers)


def _likely(log_prior: Tensor, points: Tensor, ways: _Ways) -> Tensor:
    """Indices of the points ``(P, d)`` at which an entity may have been, given all reports; none if none can be.

    Of one in `SPARSE`, all reports are looked at; of the others, only as long as those left might raise them that far.
    """
    most, some = _most(ways.seen), torch.arange(0, len(points), SPARSE)
    best = float(_with_reports(log_prior[some], points[some], ways, range(len(most))).max()) - LIKELY
    left = torch.nonzero(log_prior + float(most.sum()) > best)[:, 0]
    joint = log_prior[left]
    for n in range(len(most)):
        joint = _with_reports(joint, points[left], ways, [n])
        kept = joint + float(most[n + 1 :].sum()) > best
        joint, left = joint[kept], left[kept]
    return left[joint > joint.max() - LIKELY] if len(left) else left


def _most(seen: Seen) -> Array:
    """What the reports of each instant add to a log likelihood at most ``(N,)``: their density at its peak."""
    narrowest = seen.noise[..., 2].min(2, initial=1.0)
    outlier = np.where(seen.kind == LINEAR, -math.inf, seen.outlier)
    peak: Array = np.where(seen.mask, np.maximum(-seen.constant - np.log(narrowest), outlier), 0.0).sum(1)
    return peak


def _with_reports(log_density: Tensor, points: Tensor, ways: _Ways, instants: Sequence[int]) -> Tensor:
    """The log density ``(P,)`` with that of the reports of some instants, smoothed over cells and ways."""
    index = np.array(instants)
    frames = ways.frames[index].expand(-1, len(points), -1, -1)
    return log_density + smoothed(rows_of(ways.seen, index), points + ways.offsets[index], frames)[0].sum(0)


@dataclasses.dataclass
class _Run:
    """The whole belief and its parts on their way through the reports of a window."""

    window: Sequence[Step]
    whole: Belief
    parts: list[Belief]
    logs: Array  # of the weights of the parts and the evidence of all reports
    log_whole: float = 0.0
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)

    @classmethod
    def of(cls, window: Sequence[Step], divided: _Divided) -> _Run:
        time, parts, before = window[0].instant.time, divided.parts, window[0].belief
        assert before is not None
        error = before.error._replace(doubt=0.0)
        whole = single_belief(divided.whole, time, AccumulatedErrors.of([error]))
        means, covariances = parts.means[0, :, None].numpy(), parts.covariances[0, :, None].numpy()
        beliefs = [
            Belief(time, np.ones(1), *numbers, error=error)
            for numbers in zip(means, covariances, strict=True)
        ]
        return cls(window, whole, beliefs, parts.log_weights[0].numpy())

    def advance(self, alone: Outcome, outcomes: list[Outcome]) -> None:
        """Go on to what was found with the reports of one instant."""
        self.whole, self.log_whole = alone.belief, self.log_whole + alone.log_evidence
        self.logs = self.logs + [outcome.log_evidence for outcome in outcomes]
        kept = np.flatnonzero(self.logs > self.logs.max() - FORGOTTEN)
        self.logs, self.outcomes = self.logs[kept], [outcomes[k] for k in kept]
        self.parts = [outcome.belief for outcome in self.outcomes]


def _filter(runs: Sequence[_Run], filters: Filters) -> None:
    """Filter the whole beliefs, and the parts of all, through the reports of their windows."""
    for number in range(max((len(run.window) for run in runs), default=0)):
        # without parts, one had evidence that is not a number
        active = [run for run in runs if number < len(run.window) and run.parts]
        wholes = filters.whole([replace(run.window[number], belief=run.whole) for run in active])
        steps = [replace(run.window[number], belief=belief) for run in active for belief in run.parts]
        outcomes = iter(filters.parts(steps))
        for run, alone in zip(active, wholes, strict=True):
            run.advance(alone, [next(outcomes) for _ in run.parts])


def _joined(run: _Run, updater: Updater) -> Outcome | None:
    """Return the outcome of all parts together; None if they found no evidence that the whole had not."""
    if not run.outcomes:
        return None
    mixture = beside(
        [part.mixture().scaled_by(log) for part, log in zip(run.parts, run.logs.tolist(), strict=True)]
    )
    total, settings = float(mixture.log_weights.logsumexp(1)), updater.settings
    if not total > run.log_whole - LOST:
        return None
    few, lost = condense(mixture.normalised(), settings.most_components, settings.merge_below)
    best = run.outcomes[int(run.logs.argmax())]
    error = AccumulatedErrors.of([best.belief.error]).plus(lost).single()[0]
    doubt = max(run.whole.error.doubt - (total - run.log_whole), 0.0)  # what was found explains the rest
    belief = single_belief(few, best.belief.time, AccumulatedErrors.of([error]))
    outcome = replace(best, belief=replace(belief, error=error._replace(doubt=doubt)))
    light = run.whole.mixture().scaled_by(run.log_whole - total)
    return joined([outcome], light, settings)[0]
