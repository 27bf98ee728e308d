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

import torch
from msgspec.structs import replace
from torch import Tensor

from beliefstream.inference.likelihood.observations import LIKELIHOOD
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture, beside
from beliefstream.inference.mixtures.reduction import NEGLIGIBLE_WEIGHT, reduce
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import expanded
from beliefstream.inference.tracking.accumulated_error import AccumulatedErrors
from beliefstream.inference.tracking.events import Belief, Step
from beliefstream.inference.tracking.outcomes import Outcome
from beliefstream.inference.tracking.prediction import predict
from beliefstream.inference.tracking.recovery.doubt import outlier_share
from beliefstream.inference.update.closed.nearly_linear import hypotheses
from beliefstream.inference.update.closed.reduction_cost import condense
from beliefstream.inference.update.settings import UpdateSettings

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


def with_light(outcome: Outcome, step: Step, whole: Belief | None, settings: UpdateSettings) -> Outcome:
    """Return the outcome of a step's heavy components with the light ones of the `whole` belief after it."""
    if not settings.light:
        return outcome
    readings = expanded(step.instant.readings)
    if whole is None and not (outcome.belief.error.doubt > BEGIN and outlier_share(readings)):
        return outcome
    is_usual = step.belief is not None and step.instant.prior is None and not step.model.motion.is_static
    if not is_usual or any(each.sensor.kind == LIKELIHOOD for each in readings):
        return outcome
    joint = predict([step if whole is None else replace(step, belief=whole)])
    for reading in readings:
        joint = hypotheses(joint, encode([[reading]], joint.dimension), torch.tensor([0]))
        joint = reduce(joint, 2 * MOST, 0.0, POWER).scaled_by(joint.log_weights.logsumexp(1))
    return joined(outcome, joint.scaled_by(-outcome.log_evidence), settings)


def joined(outcome: Outcome, joint: GaussianMixture, settings: UpdateSettings) -> Outcome:
    """Join the answer with the hypotheses `joint` that it lacks, whose weights are relative to it.

    It lacks those that are negligible, and those at whose mean it has less than half their density.
    """
    answer = outcome.belief.mixture()
    peak = joint.log_weights - la.log_diagonal(joint.factors()) - joint.dimension / 2 * LOG_TWO_PI
    lacks = (joint.log_weights < math.log(NEGLIGIBLE_WEIGHT)) | (
        answer.log_density(joint.means) < peak - math.log(2)
    )
    places = torch.nonzero((lacks & joint.present)[0])[:, 0]
    if len(places) == 0:
        return outcome
    found = beside([answer, joint.places(places[None])])
    log_evidence = outcome.log_evidence + float(found.log_weights.logsumexp(1))
    found = found.normalised()
    weights, error = found.log_weights[0], outcome.belief.error
    if weights[answer.components :].exp().sum() > 0.5:  # what the doubt was about
        error = error._replace(doubt=0.0)
    heavy = weights > weights.max() + math.log(NEGLIGIBLE_WEIGHT)
    light = ~heavy & (weights > weights.max() + (LEAST if error.doubt > 0 else LEAST_CALM))
    most, below = settings.most_components, settings.merge_below
    few, lost = condense(_only(found, heavy), most, below, POWER)
    error = AccumulatedErrors.of([error]).plus(lost).single()[0]._replace(doubt=error.doubt)
    parts = [few.scaled_by(weights[heavy].logsumexp(0))]
    if bool(light.any()):
        few = reduce(_only(found, light), MOST, below, POWER)
        parts.append(few.scaled_by(weights[light].logsumexp(0)))
    everything = beside(parts)
    shares = everything.log_weights[0].exp().numpy()
    belief = replace(
        outcome.belief,
        weights=shares / shares.sum(),
        means=everything.means[0].numpy(),
        covariances=everything.covariances[0].numpy(),
        error=error,
    )
    return replace(outcome, belief=belief, log_evidence=log_evidence)


def _only(mixture: GaussianMixture, chosen: Tensor) -> GaussianMixture:
    """The chosen components ``(K,)`` of a batch of one."""
    return mixture.places(torch.nonzero(chosen)[:, 0][None])
