from __future__ import annotations

import math

import scipy.optimize
import torch

from research.paper.exact.grids import Array
from research.paper.exact.variational import variational_gaussian
from research.paper.scalar import log_joint
from tests.research.paper.normal_task import NormalTask, posterior


def test_a_normal_posterior_is_found_exactly() -> None:
    task = NormalTask()
    problems = task.sample(50, torch.Generator().manual_seed(0))
    found = variational_gaussian(
        lambda points: log_joint(task, problems, points), *task.family.moments(problems.prior)
    )
    mean, deviation = posterior(problems)
    torch.testing.assert_close(found.means[:, 0], mean, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.log_scales[:, 0].exp(), deviation, atol=1e-6, rtol=0)


def test_the_bound_of_an_inverse_gamma_is_highest() -> None:
    """E_q of −A u − B e^{−u} is −A m − B e^{−m + s²/2}, so the bound has a closed form for an optimiser."""
    shape, rate = 2.5, 3.0
    found = variational_gaussian(
        lambda u: -shape * u - rate * (-u).exp(), torch.zeros(1).double(), torch.ones(1).double()
    )

    def bound(at: Array) -> float:
        mean, log_scale = at
        return float(shape * mean + rate * math.exp(-mean + 0.5 * math.exp(2 * log_scale)) - log_scale)

    best = scipy.optimize.minimize(bound, [0.0, 0.0], tol=1e-12).x
    assert abs(float(found.means[0, 0]) - best[0]) < 1e-4
    assert abs(float(found.log_scales[0, 0]) - best[1]) < 1e-4
