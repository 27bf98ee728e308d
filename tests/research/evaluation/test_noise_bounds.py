"""The bound of the density of non-Gaussian noise, which the exact grid drops cells by."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference.sensors import Noise
from research.evaluation.exact.grid import best_log_density
from tests.inference.likelihood.test_noise import BIASED, PUBLISHED, range_with
from tests.inference.reports import at, report


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 3.0))
def test_no_density_within_reach_is_above_its_bound(seed: int, reach: float) -> None:
    generator = np.random.default_rng(seed)
    for noise in (BIASED, PUBLISHED, Noise((0.5, 0.5), (0.0, 1.0), (1.0, 2.0), 0.3)):
        value = float(generator.uniform(0, 8))
        observations = report(range_with(noise), value)
        distance = float(generator.uniform(0.1, 8))
        center = at(np.array([distance, 0.0]))
        near = torch.linspace(max(0.0, distance - reach), distance + reach, 101, dtype=torch.float64)
        around = torch.stack([near, torch.zeros_like(near)], -1)[None]
        difference = observations.difference(center)
        magnitude, span = observations.magnitude(difference), torch.full_like(difference, reach)
        bounds = (
            observations.deviation((magnitude - span).clamp_min(0)).expand_as(span),
            observations.deviation(magnitude + span).expand_as(span),
        )
        base = observations.standard_deviation[:, None]
        bound = best_log_density(difference, span, base, bounds, observations.mixture, observations.wraps)
        residuals = observations.residuals(around)
        inlier = residuals.log_likelihood + torch.nn.functional.logsigmoid(residuals.log_odds)
        inlier = inlier - torch.log1p(-observations.outlier_probability) + observations.log_normaliser
        assert float(inlier.max()) <= float(bound) + 1e-6
