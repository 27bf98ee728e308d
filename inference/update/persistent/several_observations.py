"""Updates with errors of sensors that last, where the observations bend too much for a closed form.

Several observations are taken one after the other, most informative first: by a closed form where one alone is linear,
or nearly so, and else as `single_observation` says.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.observations import LINEAR, Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.update.closed.linearised import is_near
from beliefstream.inference.update.closed.nearly_linear import hypotheses, order
from beliefstream.inference.update.closed.reduction_cost import condense
from beliefstream.inference.update.closed.scaled_problem import pose
from beliefstream.inference.update.persistent.single_observation import Alone, StateAnswer, solved
from beliefstream.inference.update.problems import Problems, Solve, groups
from beliefstream.inference.update.result import Answer, Method, joined
from beliefstream.inference.update.settings import UpdateSettings

Array = NDArray[np.float64]
Places = NDArray[np.int64]


def can(problems: Problems) -> Tensor:
    """Entities whose sensors have errors that last, and bend too much for a closed form, ``(B,)`` bool."""
    if problems.observations.hidden is None:
        return torch.zeros(problems.prior.batch, dtype=torch.bool)
    return ~is_near(problems.posed, problems.observations, problems.settings)


def answer(problems: Problems, index: Tensor) -> Answer:
    """Posteriors of the entities at `index`, over the state and the hidden coordinates.

    Their observations have Gaussian noise, and none is a problem of the user. `Problems.solve` answers those of the
    state alone, one observation at a time.
    """
    prior, observations = problems.prior.rows(index), problems.observations.rows_of(index)
    places = order(prior, observations, problems.scaled.linear.rows(index))
    alike = groups(torch.arange(len(index)), observations.mask.sum(1))
    return joined(
        [
            (some, _one_by_one(problems, prior.rows(some), observations.rows_of(some), places[some]))
            for some in alike
        ]
    )


def _one_by_one(
    problems: Problems, belief: GaussianMixture, observations: Observations, places: Tensor
) -> Answer:
    """Posteriors of entities with as many observations, which are taken in the order of their `places`."""
    settings, count = problems.settings, int(observations.mask[0].sum())
    (total, lost), best = torch.zeros(2, belief.batch).double(), torch.zeros(0)
    for number in range(count):
        one = observations.one_each(places[:, number])
        near, diverged = _near(belief, one, settings)
        joint, loss, best = _with_one(belief, one, problems.solve, near, diverged)
        evidence = torch.logsumexp(joint.log_weights, 1)
        belief, more = condense(joint.normalised(), settings.most_components, settings.merge_below)
        total, lost = total + evidence, lost + loss + more
    # no other method has hidden coordinates: what lost anything is an answer too, and says so
    return Answer.of(belief, total, lost.clamp_max(torch.finfo(lost.dtype).max), best)


def _near(belief: GaussianMixture, one: Observations, settings: UpdateSettings) -> tuple[Tensor, Tensor]:
    """Which observations have a closed form, ``(B,)`` bool, and what it loses, nats."""
    posed = pose(belief, one, settings.linear_below)
    is_linear = (one.kind[:, 0] == LINEAR) & (posed.divergence == 0)  # with closed forms switched off, too
    return is_linear | is_near(posed, one, settings), posed.divergence


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
    own = replace(
        one, matrix=one.matrix[..., :state], heading=one.heading[..., :state], hidden=None, product=None
    )

    def differences(row: Places, points: Array) -> Array:
        return array(own.rows_of(torch.from_numpy(row)).difference(torch.from_numpy(points)))[..., 0]

    def answer(alone: Alone) -> StateAnswer:
        update = solve(GaussianMixture(*map(torch.from_numpy, alone.prior)), _of(alone, own))
        vectors = array(update.log_evidence), array(update.lost), update.method.numpy()
        return StateAnswer(update.posterior.numbers, *vectors)

    found = solved(belief.numbers, one.numbers, state, differences, answer, int(Method.KALMAN))
    joint = GaussianMixture(*map(torch.from_numpy, found.joint))
    return joint, torch.from_numpy(found.lost), torch.from_numpy(found.method)


def _of(alone: Alone, own: Observations) -> Observations:
    """The observations of the state alone."""
    seen = own.rows_of(torch.from_numpy(alone.row))
    value, matrix, deviation = seen.value.clone(), seen.matrix, torch.from_numpy(alone.deviation)[:, None]
    is_linear = seen.kind == LINEAR
    value[:, 0, 0] = torch.from_numpy(alone.value) / torch.where(is_linear, deviation, 1.0)[:, 0]
    return replace(
        seen,
        value=value,
        matrix=torch.where(is_linear[..., None, None], matrix / deviation[..., None, None], matrix),
        standard_deviation=torch.where(is_linear, 1.0, deviation),
        log_scale=seen.log_scale + torch.from_numpy(alone.growth)[:, None],
        outlier_probability=torch.zeros_like(seen.outlier_probability),
    )
