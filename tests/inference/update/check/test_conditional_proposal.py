"""Radars whose distance, radial speed and bearing may be outliers, and the points of their checks."""

from __future__ import annotations

import numpy as np
import torch

from beliefstream.inference.sensors import Reading, encode, function
from beliefstream.inference.update.check.conditional_proposal import ConditionalProposal
from tests.inference.plain_models import random_mixture
from tests.inference.problems import updater
from tests.inference.radar import exact, reported, wide

OUTLIER = 0.05


def test_a_radar_under_a_wide_prior_has_the_exact_evidence_and_says_how_far_its_answer_is() -> None:
    for values in ((120.0, -6.0, 0.4), (60.0, 3.0, -2.5), (210.0, 11.0, -0.3)):
        update = updater().update(wide(), reported(*values, OUTLIER))
        evidence, points, log = exact(values, 20_000, OUTLIER)
        assert abs(float(update.log_evidence[0]) - evidence) < 0.05
        lost = (log - update.posterior.log_density(torch.from_numpy(points)[None])[0].numpy()).mean()
        # a mixture of sixteen Gaussians cannot follow ring, beam and velocities; it must say so
        assert lost < 0.8
        assert float(update.lost[0]) > 0.7 * lost


def test_points_have_the_density_that_is_stated() -> None:
    prior = random_mixture(3, 1, 3, 2)
    product = function(lambda state: state[0] * state[1], (0, 1), 2, 0.3)
    observations = encode([[Reading(product, np.array([1.0]))]], 2)
    proposal = ConditionalProposal.of(prior, [0], prior, observations)
    line = torch.linspace(-9, 9, 601, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)[None]
    share = proposal.log_density(grid).exp() * (line[1] - line[0]).square()
    assert abs(float(share.sum()) - 1) < 1e-3
    points = proposal.draw(1 << 14, seed=4)
    for power in (1, 2):
        exact = (share[..., None] * grid**power).sum(1)
        assert torch.allclose((points**power).mean(1), exact, atol=0.03, rtol=0.02)
    assert torch.allclose(points.prod(2).mean(1), (share * grid.prod(2)).sum(1), atol=0.03)
