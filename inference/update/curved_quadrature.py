"""Exact moments by quadrature in the frame of one observation of three coordinates, or of one, that bends a little.

Observations of two coordinates have a quadrature of their own (`plane`).

The nodes of `inference.update.quadrature` are those of the prior. An observation that is sharp beside the prior falls
between them. Here they follow the observation: across the line along which it changes, they are those of the prior.
On each line through such a node, they are those of a Gaussian at the posterior's peak there (adaptive quadrature: Q.
Liu and D. A. Pierce, "A Note on Gauss–Hermite Quadrature", Biometrika 81(3), 1994). So they lie along the ring or the
ray, whatever it is beside the prior, and few are enough.

Each component times an inlier gets its exact evidence, mean and covariance. An outlier's density is constant, so a
component times an outlier stays as it is. A strongly bent component is divided across the line (`splitting.DIVISIONS`):
each part takes its share of every node, ``w_i N_i / Σ_j w_j N_j``, which costs no other node. What no sensor touches
follows exactly.

The nodes of one side of a ring do not see the other side, nor those of a bearing what lies behind the sensor. So the
other side must be some standard deviations away from every component. Of a component that is narrow along one axis, it
may be much nearer than the sensor. Two rules must agree, and the divergence of the answer is summed over the nodes, as
in `quadrature`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import ANGLE, RANGE, Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native_arrays import numbers_of
from beliefstream.inference.update.curved_rules import MOST_TOUCHED
from beliefstream.inference.update.native_curved_quadrature import solve
from beliefstream.inference.update.plane.single_observation import plain
from beliefstream.inference.update.result import Method, Update, size_at
from beliefstream.inference.update.scaled_problem import Scaled
from beliefstream.inference.update.settings import UpdateSettings


def follow(
    problem: Scaled, touched: Tensor, open_: Tensor, settings: UpdateSettings
) -> Iterator[tuple[Tensor, Update]]:
    """Places and answers of the problems that are solved well enough, by the number of touched coordinates.

    Args:
        problem: over all coordinates, the components in falling order of weight.
        touched: coordinates that each entity's sensors touch, ``(B, D)`` bool.
        open_: problems that are not solved yet, ``(B,)`` bool.
        settings: `quadrature_below` is the loss in nats that an answer may have.
    """
    index = torch.nonzero(open_ & _fits(problem.observations, touched))[:, 0]
    for some, axes in _alike(index, touched):
        found = _solve(problem, some, axes, settings)
        good = torch.nonzero(found.divergence < settings.quadrature_below)[:, 0]
        if len(good):
            yield some[good], found.rows(good)


def _fits(observations: Observations, touched: Tensor) -> Tensor:
    """Which problems have one plain range or bearing of few coordinates, ``(B,)`` bool."""
    bent = observations.mask & ((observations.kind == RANGE) | (observations.kind == ANGLE))
    count = touched.sum(1)
    few = (count <= MOST_TOUCHED) & (count != 2)
    return (observations.mask.sum(1) == 1) & bent.any(1) & few & observations.is_plain


def _alike(index: Tensor, touched: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Split `index` by the number of touched coordinates, each part with its touched coordinates ``(n, d)``."""
    count = touched[index].sum(1)
    for size in sorted(set(count.tolist())):
        some = index[count == size]
        yield some, torch.nonzero(touched[some])[:, 1].view(len(some), size)


def _solve(problem: Scaled, index: Tensor, axes: Tensor, settings: UpdateSettings) -> Update:
    """Answers for the problems at `index`, with infinite divergence where the nodes must not be used."""
    prior, observations, places = plain(problem, index)
    assert observations.native is not None
    found, values = solve(
        numbers_of(prior),
        observations.native,
        places.numpy(),
        axes.contiguous().numpy(),
        settings.most_components,
        float(settings.merge_below),
    )
    posterior = GaussianMixture(*(torch.from_numpy(part) for part in found))
    evidence, divergence = torch.from_numpy(values)
    surprise = problem.prediction.rows_of(index).surprise(problem.prior.rows(index))
    method = torch.full((len(index),), Method.QUADRATURE, dtype=torch.int64)
    posterior = problem.rows(index).back(posterior)
    return Update(posterior, size_at(divergence), evidence, surprise, method, divergence)
