"""Light components of beliefs in doubt: what an update drops as negligible, kept until later reports decide.

A belief about a moving entity keeps up to `UpdateSettings.most_components` components, none lighter than
`NEGLIGIBLE_WEIGHT`. If the entity was carried to another place, the first reports from there are outliers to all of
them. That none was an outlier, and the entity moved far, may be a hypothesis of weight e⁻³⁰. While a belief is in
doubt, such hypotheses stay in it as light components. Each takes Kalman updates, as an inlier and as an outlier, with
every report. One that becomes heavier than `NEGLIGIBLE_WEIGHT` is a component as any other from then on. Light components
are not published.

They come from the hypotheses of all components, where the answer of the usual update has less than half their density.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from beliefstream.inference.likelihood.observations import LIKELIHOOD
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture, beside
from beliefstream.inference.mixtures.reduction import NEGLIGIBLE_WEIGHT, reduce
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import expanded
from beliefstream.inference.tracking.events import Belief
from beliefstream.inference.tracking.outcomes import Outcome
from beliefstream.inference.tracking.prediction import Step, predict
from beliefstream.inference.update.closed.nearly_linear import hypotheses
from beliefstream.inference.update.closed.reduction_cost import condense
from beliefstream.inference.update.updater import Updater

BEGIN = float(__import__("os").environ.get("BEG", "3"))  # nats of doubt at which light components are kept: two surprises soon after each other
LEAST = float(__import__("os").environ.get("LST", "-100"))  # log weight of a component
MOST = int(__import__("os").environ.get("MST", "48"))  # light components
POWER = math.log(NEGLIGIBLE_WEIGHT) / LEAST


def without_light(step: Step) -> tuple[Step, Belief | None]:
    """Return the step with the heavy components of its belief alone, and the whole belief if it has light ones."""
    belief = step.belief
    if belief is None or belief.weights.min() >= NEGLIGIBLE_WEIGHT * belief.weights.max():
        return step, None
    heavy = belief.weights >= NEGLIGIBLE_WEIGHT * belief.weights.max()
    share = belief.weights[heavy]
    kept = replace(
        belief, weights=share / share.sum(), means=belief.means[heavy], covariances=belief.covariances[heavy]
    )
    return replace(step, belief=kept), belief


def with_light(outcome: Outcome, step: Step, whole: Belief | None, updater: Updater) -> Outcome:
    """Return the outcome of heavy components with light ones; `whole` is the belief before with all, if it had any."""
    readings = expanded(step.instant.readings)
    in_doubt = whole is not None or outcome.belief.error.doubt > BEGIN
    usual = step.instant.prior is None and not step.model.motion.is_static and step.belief is not None
    if not (in_doubt and usual) or any(each.sensor.kind == LIKELIHOOD for each in readings):
        return outcome
    before = predict([step if whole is None else replace(step, belief=whole)])
    joint = before
    if readings:
        for reading in readings:
            observations = encode([[reading]], before.dimension)
            joint = hypotheses(joint, observations, torch.tensor([0]))
            joint = reduce(joint, 2 * MOST, 0.0, POWER).scaled_by(torch.logsumexp(joint.log_weights, 1))
        joint = joint.scaled_by(-outcome.log_evidence)
    return _combined(outcome, joint, updater)


def _combined(outcome: Outcome, joint: GaussianMixture, updater: Updater) -> Outcome:
    heavy = outcome.belief.mixture()
    own = joint.log_weights - la.log_diagonal(joint.factors()) - joint.dimension / 2 * math.log(2 * math.pi)
    missed = joint.present & (heavy.log_density(joint.means) < own - math.log(2))
    if not bool(missed.any()):
        return outcome
    light = GaussianMixture(
        torch.where(missed, joint.log_weights, -math.inf), joint.means, joint.covariances
    )
    everything = beside([heavy, light]).normalised()
    top = everything.log_weights.max()
    is_heavy = everything.log_weights > top + math.log(NEGLIGIBLE_WEIGHT)
    most = updater.settings.most_components
    parts = [condense(_only(everything, is_heavy), most, updater.settings.merge_below)[0].scaled_by(
        torch.logsumexp(torch.where(is_heavy, everything.log_weights, -math.inf), 1)
    )]
    is_light = ~is_heavy & (everything.log_weights > top + LEAST)
    if bool(is_light.any()):
        total = torch.logsumexp(torch.where(is_light, everything.log_weights, -math.inf), 1)
        parts.append(reduce(_only(everything, is_light), MOST, updater.settings.merge_below, POWER).scaled_by(total))
    found = beside(parts)
    present = found.present[0]
    weights = found.log_weights[0, present].exp().numpy()
    belief = replace(
        outcome.belief,
        weights=weights / weights.sum(),
        means=found.means[0, present].numpy(),
        covariances=found.covariances[0, present].numpy(),
    )
    return replace(outcome, belief=belief)


def _only(mixture: GaussianMixture, chosen: Tensor) -> GaussianMixture:
    index = torch.nonzero(chosen[0])[:, 0][None]
    return mixture.places(index)
