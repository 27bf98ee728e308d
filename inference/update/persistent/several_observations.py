"""Updates with errors of sensors that last, where the observations bend too much for a closed form.

Several observations are taken one after the other, most informative first: by a closed form where one alone is linear,
or nearly so, and else as `single_observation` says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.observations import LINEAR, Linearisation, Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native_arrays import array, numbers_of
from beliefstream.inference.update.closed.nearly_linear import hypotheses, order
from beliefstream.inference.update.closed.reduction_cost import condense
from beliefstream.inference.update.closed.scaled_problem import pose
from beliefstream.inference.update.persistent.single_observation import Alone, Answer, solved
from beliefstream.inference.update.quadrature import linear_share
from beliefstream.inference.update.result import Method, Update, efficiency_at, joined
from beliefstream.inference.update.settings import UpdateSettings

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Solve = Callable[[GaussianMixture, Observations], Update]


def update(
    prior: GaussianMixture,
    observations: Observations,
    linear: Linearisation,
    p_value: Tensor,
    solve: Solve,
    settings: UpdateSettings,
) -> Update:
    """Update `prior` ``(B, K, D + m)`` with observations of m hidden errors.

    Args:
        prior: over the state and the hidden coordinates.
        observations: without problems, with Gaussian noise.
        linear: the observations at the prior's means, in the frames of its factors.
        p_value: of all observations of each entity, ``(B,)``.
        solve: updates priors over the state with one observation each.
        settings: limits of the closed form, and of reduction.
    """
    places = order(prior, observations, linear)
    found, counts = [], observations.mask.sum(1)
    for count in sorted(set(counts.tolist())):
        index = torch.nonzero(counts == count)[:, 0]
        belief, total, lost, best = prior.rows(index), *torch.zeros(2, len(index)).double(), torch.zeros(0)
        for number in range(count):
            one = observations.rows_of(index).one_each(places[index, number])
            # one alone is here because it bends
            near, diverged = _near(belief, one, settings) if count > 1 else (one.kind[:, 0] == LINEAR, lost)
            joint, loss, best = _with_one(belief, one, solve, near, diverged)
            evidence = torch.logsumexp(joint.log_weights, 1)
            belief, more = condense(joint.normalised(), settings.most_components, settings.merge_below)
            total, lost = total + evidence, lost + loss + more
        whole = Update(belief, efficiency_at(lost), total, p_value[index], best, lost)
        found.append((index, whole))
    return joined(found)


def _near(belief: GaussianMixture, one: Observations, settings: UpdateSettings) -> tuple[Tensor, Tensor]:
    """Which observations have a closed form, ``(B,)`` bool, and what it loses, nats."""
    posed = pose(belief, one, settings.linear_below)
    limit = settings.linear_below * linear_share(posed, one, settings)
    return (one.kind[:, 0] == LINEAR) | (posed.divergence < limit), posed.divergence


def _with_one(
    belief: GaussianMixture, one: Observations, solve: Solve, near: Tensor, diverged: Tensor
) -> tuple[GaussianMixture, Tensor, Tensor]:
    """Every component after one observation, by each hypothesis, not normalised; what is lost, and the methods.

    Those that are `near` ``(B,)`` bool take the closed form, which loses `diverged` ``(B,)`` nats.
    """
    parts: list[tuple[Tensor, GaussianMixture, Tensor, Tensor]] = []
    for is_linear in (True, False):
        index = torch.nonzero(near == is_linear)[:, 0]
        if len(index):
            some, seen = belief.rows(index), one.rows_of(index)
            if is_linear:
                joint = hypotheses(some, seen, torch.zeros(len(index), dtype=torch.int64))
                loss = diverged[index]
                method = torch.where(loss > 0, int(Method.LINEARISED), int(Method.KALMAN))
                parts.append((index, joint, loss, method))
            else:
                parts.append((index, *_with_scalar(some, seen, solve)))
    places = torch.argsort(torch.cat([part[0] for part in parts]))
    most = max(part[1].components for part in parts)
    padded = [part[1].padded(most).parts for part in parts]
    joint = GaussianMixture(*(torch.cat(each)[places] for each in zip(*padded, strict=True)))
    return (
        joint,
        torch.cat([part[2] for part in parts])[places],
        torch.cat([part[3] for part in parts])[places],
    )


def _with_scalar(
    belief: GaussianMixture, one: Observations, solve: Solve
) -> tuple[GaussianMixture, Tensor, Tensor]:
    assert one.hidden is not None
    state = belief.dimension - int(one.hidden.max())
    own = replace(one, matrix=one.matrix[..., :state], heading=one.heading[..., :state], hidden=None)

    def differences(row: Places, points: Array) -> Array:
        return array(own.rows_of(torch.from_numpy(row)).difference(torch.from_numpy(points)))[..., 0]

    def answer(alone: Alone) -> Answer:
        update = solve(GaussianMixture(*map(torch.from_numpy, alone.prior)), _of(alone, own))
        vectors = array(update.log_evidence), array(update.divergence), update.method.numpy()
        return Answer(numbers_of(update.posterior), *vectors)

    found = solved(numbers_of(belief), one.numbers, state, differences, answer, int(Method.KALMAN))
    joint = GaussianMixture(*map(torch.from_numpy, found.joint))
    return joint, torch.from_numpy(found.lost), torch.from_numpy(found.method)


def _of(alone: Alone, own: Observations) -> Observations:
    """The observations of the state alone."""
    seen = own.rows_of(torch.from_numpy(alone.row))
    value = seen.value.clone()
    value[:, 0, 0] = torch.from_numpy(alone.value)
    return replace(
        seen,
        value=value,
        standard_deviation=torch.from_numpy(alone.deviation)[:, None],
        log_scale=seen.log_scale + torch.from_numpy(alone.growth)[:, None],
        outlier_probability=torch.zeros_like(seen.outlier_probability),
    )
