"""The motion's noise from a path: right on simulated paths of known noise."""

from __future__ import annotations

import numpy as np
import pytest

from research.recordings.fitting import acceleration_density, outlier_share


@pytest.mark.parametrize("spacing", [0.5, 2.0])
def test_the_density_of_a_simulated_path_is_found(spacing: float) -> None:
    step, density, rng = 0.05, 0.3, np.random.default_rng(1)
    velocity = np.cumsum(rng.normal(0, np.sqrt(density * step), (40_000, 2)), axis=0)
    places = np.cumsum(velocity * step, axis=0)
    times = np.linspace(100, 100 + step * (len(places) - 1), len(places))
    assert acceleration_density(times, np.asarray(places, np.float64), spacing) == pytest.approx(
        density, rel=0.1
    )


def test_a_straight_path_at_constant_speed_has_none() -> None:
    times = np.linspace(0, 50, 501)
    places = np.stack([3.0 + 1.5 * times, 4.0 - 0.5 * times], 1)
    assert acceleration_density(times, places.astype(np.float64), 1.0) == pytest.approx(0.0, abs=1e-12)


def test_outliers_are_told_from_noise() -> None:
    rng = np.random.default_rng(2)
    errors = np.concatenate([rng.normal(0, 0.2, 4750), rng.uniform(-5, 5, 250)])
    deviation, share = outlier_share(errors, 10.0)
    assert deviation == pytest.approx(0.2, rel=0.05)
    assert share == pytest.approx(0.05, rel=0.15)


def test_where_none_was_seen_there_may_still_be_outliers() -> None:
    deviation, share = outlier_share(np.random.default_rng(3).normal(0, 0.2, 999), 10.0)
    assert deviation == pytest.approx(0.2, rel=0.05)
    assert 0.001 <= share < 0.003
