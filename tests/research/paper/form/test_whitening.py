from __future__ import annotations

import pytest
import torch

from research.paper.form.whitening import PROFILE, posterior_points, profile, spread_points, whiten
from research.paper.scalar import Problems
from tests.research.paper.normal_task import NormalTask, posterior


def problems(count: int = 50) -> Problems:
    return NormalTask().sample(count, torch.Generator().manual_seed(0))


def test_a_frame_has_the_moments_of_a_normal_posterior() -> None:
    frame = whiten(NormalTask(), problems())
    mean, deviation = posterior(problems())
    assert bool(frame.settled.all())
    assert float(((frame.centre - mean) / deviation).abs().max()) < 0.02
    assert float((frame.scale / deviation).log().abs().max()) < 0.05


def test_a_frame_walks_to_data_far_from_the_prior() -> None:
    far = problems()._replace(data=problems().data + 9)
    frame = whiten(NormalTask(), far)
    mean, deviation = posterior(far)
    assert float(((frame.centre - mean) / deviation).abs().max()) < 0.3


def test_the_profile_of_a_normal_posterior_is_flat() -> None:
    frame = whiten(NormalTask(), problems())
    near = PROFILE.abs() < 3
    found = profile(NormalTask(), problems(), frame)[:, near]
    assert float((found - found.mean(1, keepdim=True)).abs().max()) < 0.2


def test_points_have_the_mass_of_the_posterior() -> None:
    frame, points = whiten(NormalTask(), problems()), spread_points(61, 0.3)
    places, logs = posterior_points(NormalTask(), problems(), frame, points)
    mean, deviation = posterior(problems())
    weights = logs.exp()
    torch.testing.assert_close(weights.sum(1), torch.ones(50, dtype=torch.float64))
    torch.testing.assert_close((weights * places).sum(1), mean, atol=1e-5, rtol=0)
    spread = (weights * (places - mean[:, None]).square()).sum(1).sqrt()
    torch.testing.assert_close(spread, deviation, atol=0, rtol=1e-3)


def test_spacings_of_points_sum_to_their_reach() -> None:
    points = spread_points(121)
    reach = points.places[-1] - points.places[0]
    ends = 0.5 * (points.log_spacing[0].exp() + points.log_spacing[-1].exp())
    assert float(points.log_spacing.exp().sum() - ends) == pytest.approx(float(reach), rel=1e-3)
