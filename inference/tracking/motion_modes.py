"""Modes of motion noise: an interacting-multiple-models filter whose models differ in their noise.

The mode is a Markov chain in continuous time. It lasts for `StateModel.mode_time` on average, and then jumps to each
other mode alike. Of M modes, the one at an instant governs the motion since the belief before. A belief has components
of each mode. At an instant every mode takes components from all modes by the probabilities of the chain, is reduced,
and is predicted and updated as any belief, with its own noise. Its evidence then weighs it (H. A. P. Blom and Y.
Bar-Shalom, "The interacting multiple model algorithm for systems with Markovian switching coefficients", IEEE
Transactions on Automatic Control 33(8), 1988; they reduce each mode to one Gaussian, here it keeps several).

A belief without modes (`Belief.modes` is empty) has the same mixture in each, with equal probabilities: a stated one,
or one under a model with another number of modes. It stays so until time passes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.tracking.accumulated_error import AccumulatedError, AccumulatedErrors
from beliefstream.inference.tracking.events import Belief, StateModel, Step, beliefs_of, stacked
from beliefstream.inference.tracking.outcomes import Outcome
from beliefstream.inference.update.closed.reduction_cost import condense

Array = NDArray[np.float64]


class ByMode(NamedTuple):
    """A step in each mode that is possible."""

    steps: list[Step]
    modes: list[int]
    log_probabilities: Array  # of these modes at the instant, before its readings


def has_modes(step: Step) -> bool:
    """Whether the belief at the step's instant has modes; it has none after a prior that replaces it all."""
    belief, model, change = step.belief, step.model, step.instant.prior
    if not model.modes or belief is None:
        return False
    if change is not None and change.replaces_all(model.motion.dimension):
        return False
    return len(belief.modes) == len(model.modes) or step.instant.time > belief.time


def transition(model: StateModel, interval: float) -> Array:
    """Probabilities ``(M, M)`` of each mode (column) after an interval, seconds, given the mode before it (row)."""
    count = len(model.modes)
    left = -math.expm1(-interval / model.mode_time * count / (count - 1)) / count
    found: Array = np.full((count, count), left)
    np.fill_diagonal(found, 1 - (count - 1) * left)
    return found


def by_mode(steps: Sequence[Step], merge_below: float) -> list[ByMode]:
    """Return each step in each of its modes, with the belief as it is if that mode governs the motion to the instant.

    Each has at most `StateModel.components` components, and fewer where merging costs less than `merge_below` nats.
    """
    given = [_unreduced(step) for step in steps]
    groups: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for i, (step, each) in enumerate(zip(steps, given, strict=True)):
        assert step.belief is not None
        if len(step.belief.modes) == len(step.model.modes) and step.instant.time > step.belief.time:
            size = step.belief.means.shape[1], step.model.components
            groups[size] += ((i, place) for place in range(len(each.steps)))
    for (_, components), places in groups.items():
        few = _reduced([given[i].steps[place] for i, place in places], components, merge_below)
        for (i, place), step in zip(places, few, strict=True):
            given[i].steps[place] = step
    return given


def _unreduced(step: Step) -> ByMode:
    """As `by_mode`, of one step, with all components of its belief."""
    belief, model = step.belief, step.model
    assert belief is not None
    count, interval = len(model.modes), step.instant.time - belief.time
    if len(belief.modes) != count:
        steps = [replace(step, belief=replace(belief, modes=()), model=mode) for mode in model.modes]
        return ByMode(steps, list(range(count)), np.full(count, -math.log(count)))
    own = np.repeat(np.arange(count), belief.modes)
    joint = belief.weights[:, None] * transition(model, interval)[own]  # (K, M)
    probabilities = joint.sum(0)
    modes = np.flatnonzero(probabilities > 0).tolist()
    steps = [
        replace(step, belief=_given(belief, joint[:, mode] / probabilities[mode]), model=model.modes[mode])
        for mode in modes
    ]
    return ByMode(steps, modes, np.log(probabilities[modes]))


def _given(belief: Belief, weights: Array) -> Belief:
    """The belief with other weights, without components of weight zero."""
    some = weights > 0
    means, covariances = belief.means[some], belief.covariances[some]
    return replace(belief, weights=weights[some], means=means, covariances=covariances, modes=())


def _reduced(steps: Sequence[Step], components: int, merge_below: float) -> list[Step]:
    """Reduce the beliefs of steps, which have as many coordinates, in one batch."""
    beliefs = [step.belief for step in steps if step.belief is not None]
    few, lost = condense(stacked(beliefs), components, merge_below)
    errors = AccumulatedErrors.of([belief.error for belief in beliefs]).plus(lost).single()
    found = beliefs_of(few, [belief.time for belief in beliefs], errors)
    kept = (
        replace(after, control=before.control, hidden=before.hidden)
        for before, after in zip(beliefs, found, strict=True)
    )
    return [replace(step, belief=belief) for step, belief in zip(steps, kept, strict=True)]


def mixture_of(given: ByMode, predicted: GaussianMixture) -> GaussianMixture:
    """The mixture over all modes, a batch of one, of those predicted in each, ``(M, K, D)``."""
    whole = predicted.scaled_by(torch.from_numpy(given.log_probabilities)[:, None])
    return GaussianMixture(*(part.flatten(0, 1)[None] for part in whole.parts))


def combined(given: ByMode, outcomes: Sequence[Outcome], count: int) -> Outcome:
    """Return the outcome of a step from those in each of `count` modes.

    The sample efficiency is that of draws from all modes; the method is that of the likeliest mode.
    """
    prior, evidence = given.log_probabilities, np.array([each.log_evidence for each in outcomes])
    logs = prior + evidence + [each.log_prior_evidence for each in outcomes]
    with np.errstate(invalid="ignore"):  # without any evidence the weights are not numbers
        shares = np.exp(logs - np.logaddexp.reduce(logs))
    shares /= shares.sum()
    counts, some = [0] * count, list[int]()
    for place, mode in enumerate(given.modes):
        if shares[place] != 0:  # also where it is not a number
            counts[mode] = len(outcomes[place].belief.weights)
            some.append(place)
    beliefs, best = [outcomes[place].belief for place in some], outcomes[int(shares.argmax())]
    errors = np.array([each.error for each in beliefs])
    belief = replace(
        best.belief,
        weights=np.concatenate([shares[place] * outcomes[place].belief.weights for place in some]),
        means=np.concatenate([each.means for each in beliefs]),
        covariances=np.concatenate([each.covariances for each in beliefs]),
        error=AccumulatedError(*(shares[some] @ errors).tolist()),
        modes=tuple(counts),
    )
    least = np.array([max(outcomes[place].sample_efficiency, 1e-300) for place in some])
    return replace(
        best,
        belief=belief,
        sample_efficiency=min(1.0, float(1 / (shares[some] / least).sum())),
        log_evidence=float(np.logaddexp.reduce(prior + evidence)),
        p_value=min(1.0, float(np.exp(prior) @ [each.p_value for each in outcomes])),
        is_sound=bool(np.isfinite(shares).all()) and all(each.is_sound for each in outcomes),
    )
