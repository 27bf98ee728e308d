"""Residuals of a recording against those of a Kalman filter, and how long they stay alike."""

from __future__ import annotations

import math

import numpy as np
import pytest

from beliefstream.inference.update.updater import Updater
from beliefstream.streams.fitting.evidence import Recorded
from beliefstream.streams.fitting.residuals import Series, correlations, lags, residuals, spread
from tests.streams.fitting.test_fit import (
    DENSITY,
    INDEPENDENT,
    INTERVAL,
    LASTS,
    NAMES,
    PERSISTENT,
    simulated,
    stated,
)


def test_scores_are_the_innovations_of_a_kalman_filter_after_the_split(updater: Updater) -> None:
    observations = simulated(100, seed=11)
    mean, variance, expected = 0.0, 1.0, dict[str, list[float]]({name: [] for name in NAMES})
    for each in observations:
        variance += DENSITY * INTERVAL if each.time else 0.0
        innovation, total = each.values[0] - mean, variance + INDEPENDENT**2
        if each.time >= 20.0:
            expected[each.sensor].append(innovation / math.sqrt(total))
        mean, variance = mean + variance / total * innovation, variance * INDEPENDENT**2 / total
    found = residuals(stated(INDEPENDENT), Recorded(observations, 20.0), updater)
    assert found.keys() == {"position"}
    scores = sorted([*series.scores] for series in found["position"])
    np.testing.assert_allclose(scores, sorted(expected.values()), rtol=1e-6)
    assert found["position"][0].times[0] >= 20.0


def test_errors_that_last_are_alike_unless_they_are_stated(updater: Updater) -> None:
    recorded = Recorded(simulated(1200, seed=12), 0.0)
    before = residuals(stated(INDEPENDENT), recorded, updater)["position"]
    true = stated(INDEPENDENT, persistent_deviation=PERSISTENT, correlation_time=LASTS)
    after = residuals(true, recorded, updater)["position"]
    edges = lags(after, count=6, longest=10.0)
    assert correlations(before, edges)[0] > 0.5
    assert np.nanmax(np.abs(correlations(after, edges))) < 0.15
    assert spread(before) > 1.5
    assert spread(after) == pytest.approx(1.0, abs=0.1)


def test_correlations_are_those_of_a_known_process() -> None:
    """Of scores that forget by a half each second, with gaps in one of two series."""
    generator, series = np.random.default_rng(13), []
    for kept in (1.0, 0.7):
        scores = [0.0]
        for noise in generator.normal(size=20_000):
            scores.append(0.5 * scores[-1] + math.sqrt(0.75) * noise)
        times = np.flatnonzero(generator.random(len(scores)) < kept)
        series.append(Series(times.astype(float), np.array(scores)[times]))
    found = correlations(series, np.array([0.5, 1.5, 2.5, 3.5]))
    np.testing.assert_allclose(found, [0.5, 0.25, 0.125], atol=0.03)
    assert np.isnan(correlations(series, np.array([0.1, 0.9]))).all()  # no two reports are so near
