"""Light components of beliefs in doubt: what an update drops as negligible, kept until later reports decide.

A belief about a moving entity keeps up to `UpdateSettings.most_components` components, none lighter than
`NEGLIGIBLE_WEIGHT`. If the entity was carried to another place, the first reports from there are outliers to all of
them. That none was an outlier, and the entity moved far, may be a hypothesis of weight e⁻³⁰. While a belief is in
doubt, such hypotheses stay in it as light components. Each takes Kalman updates with every report, as an inlier and as
an outlier. One that becomes heavier than `NEGLIGIBLE_WEIGHT` is a component as any other from then on. Light components
are not published.

They are reduced with a power of their weights, so that what is far and light stays. Entities that do not move need none
(`joint_posterior`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from beliefstream.inference.likelihood.observations import LIKELIHOOD
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture, beside, concatenate
from beliefstream.inference.mixtures.reduction import NEGLIGIBLE_WEIGHT, reduce
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, expanded
from beliefstream.inference.tracking.accumulated_error import AccumulatedErrors
from beliefstream.inference.tracking.events import Array, Belief, Step
from beliefstream.inference.tracking.outcomes import Outcome
from beliefstream.inference.tracking.prediction import predict
from beliefstream.inference.tracking.recovery.doubt import outlier_share
from beliefstream.inference.update.closed.nearly_linear import hypotheses
from beliefstream.inference.update.closed.reduction_cost import condense
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.updater import Updater

# These were set on the drifting kinds of docs/adversarial.md and the cost of a fleet.
BEGIN = 3.0  # nats of doubt at which light components are kept: two surprises soon after each other
LEAST, LEAST_CALM = -100.0, -16.0  # log weight of a component, in doubt and without
MOST = 48
POWER = math.log(NEGLIGIBLE_WEIGHT) / LEAST


def heavy_part(belief: Belief) -> Belief:
    """Return the belief without its light components: the part that is published."""
    heavy = belief.weights >= NEGLIGIBLE_WEIGHT * belief.weights.max()
    if heavy.all():
        return belief
    share = belief.weights[heavy]
    means, covariances = belief.means[heavy], belief.covariances[heavy]
    return replace(belief, weights=share / share.sum(), means=means, covariances=covariances, modes=())


def without_light(step: Step) -> tuple[Step, Belief | None]:
    """Return the step with the heavy part of its belief, and the whole belief if it has a light part too."""
    if step.belief is None or (heavy := heavy_part(step.belief)) is step.belief:
        return step, None
    return replace(step, belief=heavy), step.belief


def with_light(
    outcomes: Sequence[Outcome], steps: Sequence[Step], wholes: Sequence[Belief | None], updater: Updater
) -> list[Outcome]:
    """Return the outcomes of the steps' heavy components with the light ones of the `wholes` after them.

    A whole belief is None where it has no light part.
    """
    found = list(outcomes)
    alike: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    readings = [expanded(step.instant.readings) for step in steps]
    for i, (outcome, step, whole) in enumerate(zip(outcomes, steps, wholes, strict=True)):
        if _may_have_light(outcome, step, whole, readings[i]):
            size = outcome.belief.means.shape[1]
            alike[size, len(readings[i]), step.model.components].append(i)
    for (size, number, components), places in alike.items():
        settings = updater.with_components(components).settings
        if not settings.light:
            continue
        joint = predict(
            [steps[i] if (whole := wholes[i]) is None else replace(steps[i], belief=whole) for i in places]
        )
        for n in range(number):
            seen = encode([[readings[i][n]] for i in places], size)
            joint = hypotheses(joint, seen, torch.zeros(len(places), dtype=torch.int64))
            total = joint.log_weights.logsumexp(1, keepdim=True)
            joint = reduce(joint, 2 * MOST, 0.0, POWER).scaled_by(total)
        evidence = torch.tensor([[outcomes[i].log_evidence] for i in places], dtype=torch.float64)
        better = joined([outcomes[i] for i in places], joint.scaled_by(-evidence), settings)
        for i, outcome in zip(places, better, strict=True):
            found[i] = outcome
    return found


def _may_have_light(outcome: Outcome, step: Step, whole: Belief | None, readings: Sequence[Reading]) -> bool:
    """Whether the belief has a light part, or is in doubt and may get one."""
    if whole is None and not (outcome.belief.error.doubt > BEGIN and outlier_share(readings)):
        return False
    if step.belief is None or step.instant.prior is not None or step.model.motion.is_static:
        return False
    return not any(each.sensor.kind == LIKELIHOOD for each in readings)


def joined(outcomes: Sequence[Outcome], joint: GaussianMixture, settings: UpdateSettings) -> list[Outcome]:
    """Join each answer with the hypotheses `joint` that it lacks, whose weights are relative to it.

    It lacks those that are negligible, and those at whose mean it has less than half their density. An answer with
    numbers that are not finite stays, and is refused as any such answer.
    """
    answer = concatenate([outcome.belief.mixture() for outcome in outcomes])
    peak = joint.log_weights - la.log_diagonal(joint.factors()) - joint.dimension / 2 * LOG_TWO_PI
    lacks = (joint.log_weights < math.log(NEGLIGIBLE_WEIGHT)) | (
        answer.log_density(joint.means) < peak - math.log(2)
    )
    lacks &= joint.present
    is_answer = answer.log_weights.logsumexp(1).isfinite()
    found, index = list(outcomes), torch.nonzero(lacks.any(1) & is_answer)[:, 0]
    if len(index):
        lacked = _only(joint, lacks).rows(index)
        some = [outcomes[i] for i in index.tolist()]
        for i, outcome in zip(
            index.tolist(), _reduced(some, answer.rows(index), lacked, settings), strict=True
        ):
            found[i] = outcome
    return found


def _reduced(
    outcomes: Sequence[Outcome], answer: GaussianMixture, lacked: GaussianMixture, settings: UpdateSettings
) -> list[Outcome]:
    """The outcomes with the components of both, the heavy and the light ones reduced apart."""
    together = beside([answer, lacked])
    gained, together = together.log_weights.logsumexp(1).tolist(), together.normalised()
    weights, errors = together.log_weights, [outcome.belief.error for outcome in outcomes]
    is_new = (weights[:, answer.components :].exp().sum(1) > 0.5).tolist()  # what the doubt was about
    doubts = [0.0 if new else error.doubt for new, error in zip(is_new, errors, strict=True)]
    best = weights.max(1, keepdim=True).values
    least = torch.tensor([[LEAST if doubt > 0 else LEAST_CALM] for doubt in doubts])
    heavy = weights > best + math.log(NEGLIGIBLE_WEIGHT)
    light = ~heavy & (weights > best + least)
    few, lost = condense(_only(together, heavy), settings.most_components, settings.merge_below, POWER)
    errors = AccumulatedErrors.of(errors).plus(lost).single()
    parts = [(torch.arange(len(outcomes)), few, heavy)]
    if len(index := torch.nonzero(light.any(1))[:, 0]):
        rest = _only(together, light).rows(index)
        parts.append((index, reduce(rest, MOST, settings.merge_below, POWER), light))
    numbers: list[list[tuple[Array, ...]]] = [[] for _ in outcomes]
    for at, part, chosen in parts:
        part = part.scaled_by(weights.where(chosen, -math.inf)[at].logsumexp(1, keepdim=True))
        shares, counts = part.log_weights.exp().numpy(), part.present.sum(1).tolist()
        for row, (i, count) in enumerate(zip(at.tolist(), counts, strict=True)):
            own = shares[row, :count], part.means[row, :count].numpy(), part.covariances[row, :count].numpy()
            numbers[i].append(own)
    found = []
    for i, outcome in enumerate(outcomes):
        shares, means, covariances = map(np.concatenate, zip(*numbers[i], strict=True))
        belief = replace(
            outcome.belief,
            weights=shares / shares.sum(),
            means=means,
            covariances=covariances,
            error=errors[i]._replace(doubt=doubts[i]),
        )
        found.append(replace(outcome, belief=belief, log_evidence=outcome.log_evidence + gained[i]))
    return found


def _only(mixture: GaussianMixture, chosen: Tensor) -> GaussianMixture:
    """The chosen components ``(B, K)``; the others are absent."""
    return GaussianMixture(mixture.log_weights.where(chosen, -math.inf), mixture.means, mixture.covariances)
