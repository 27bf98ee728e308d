"""Exact moments by quadrature around the sensor, for one range or bearing in the plane, however much it bends.

Around the sensor, a range is a function of the distance only, and a bearing of the direction only. So the posterior of
each component is a sum over the other coordinate: of a range, over the direction, with a Gaussian along each ray; of a
bearing, over the distance, with a narrow peak on each circle. Panels with Gauss-Legendre nodes cover that coordinate,
divided as finely as the prior and the noise ask for, and only where a component has mass (as `native_polar_nodes`).

Where a component's part of the posterior is longer than a Gaussian can bend, windows divide it. An outlier's density is
constant, so a component times an outlier stays as it is. All parts are reduced to an answer, beside which stands one
Gaussian as wide as the prior. What no sensor touches follows exactly for each part. The divergence of the answer is
summed over the nodes.

To rings that are too thin for as many components as an answer may have, a mixture is fitted (`native_polar_fit`),
unless the observation is weak: other quadrature is tried for these.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import ANGLE, RANGE, Observations
from beliefstream.inference.mixtures.native_forms import native_form
from beliefstream.inference.update.curved_quadrature import plain
from beliefstream.inference.update.polar_rules import LEAST_OF_LINES, TRUNCATED
from beliefstream.inference.update.quadrature import MOST_SPREAD, gate
from beliefstream.inference.update.result import Method, Update
from beliefstream.inference.update.scaled_problem import Scaled
from beliefstream.inference.update.settings import UpdateSettings


def surround(
    problem: Scaled, touched: Tensor, open_: Tensor, settings: UpdateSettings
) -> Iterator[tuple[Tensor, Update]]:
    """Places and answers of the problems that are solved well enough.

    Args:
        problem: over all coordinates, the components in falling order of weight.
        touched: coordinates that each entity's sensors touch, ``(B, D)`` bool.
        open_: problems that are not solved yet, ``(B,)`` bool.
        settings: `quadrature_below` is the loss in nats that an answer of quadrature may have.
    """
    native = native_form("update.native_polar_quadrature", problem.prior.means)
    index = torch.nonzero(open_ & is_one_in_the_plane(problem.observations, touched))[:, 0]
    if native is None or len(index) == 0:
        return
    prior, observations, places = plain(problem, index)
    if observations.native is None:
        return
    axes = torch.nonzero(touched[index])[:, 1].view(len(index), 2)
    surprise = problem.prediction.rows_of(index).surprise(problem.prior.rows(index))
    fits, near = leaves_a_ring(problem.rows(index)), surprise > LEAST_OF_LINES
    mixture, found = native.solve(prior, observations.native, places, axes, settings, fits, near)
    divergence, size, fitted = map(torch.from_numpy, (found.divergence, found.size, found.is_fitted))
    good = torch.nonzero(divergence < math.inf)[:, 0]
    if len(good) == 0:
        return
    index = index[good]
    method = torch.where(fitted[good], int(Method.REFINED), int(Method.QUADRATURE))
    evidence = torch.from_numpy(found.evidence)[good]
    posterior = problem.rows(index).back(mixture.rows(good))
    yield index, Update(posterior, size[good], evidence, surprise[good], method, divergence[good])


def leaves_a_ring(problem: Scaled) -> Tensor:
    """Which observations leave a ring or a beam that lines should be fitted to at once, ``(B,)`` bool.

    A weak observation leaves a prior nearly as it was, which other quadrature may solve better.
    """
    return gate(problem.prior, problem.observations, problem.linear) >= MOST_SPREAD


def is_one_in_the_plane(observations: Observations, touched: Tensor) -> Tensor:
    """Which problems have one plain range or bearing that touches two coordinates, ``(B,)`` bool.

    A distance as small as its noise, such as the speed of what stands still, is none: its ring has no inside.
    """
    is_ring = observations.value[..., 0] > TRUNCATED * observations.standard_deviation
    bent = observations.mask & (((observations.kind == RANGE) & is_ring) | (observations.kind == ANGLE))
    single = (observations.mask.sum(1) == 1) & bent.any(1) & (touched.sum(1) == 2)
    return single & observations.is_plain
