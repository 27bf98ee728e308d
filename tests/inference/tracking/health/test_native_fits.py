"""Fits of readings to their predictions against the predictive mixture, written with SciPy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.special import logsumexp
from scipy.stats import norm

from beliefstream.inference.likelihood.noise import Noise
from beliefstream.inference.likelihood.observations import LINEAR
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import (
    Reading,
    bearing,
    encode,
    function,
    linear,
    position,
    range_to,
    signal_strength,
)
from beliefstream.inference.tracking.health.columns import ASSUMED_OUTLIERS, Array, Fit
from beliefstream.inference.tracking.health.fits import fits
from beliefstream.inference.tracking.health.native_fits import BENT, SMALLEST, WIDEST_ANGLE
from tests.inference.likelihood import operators
from tests.inference.plain_models import random_mixture, random_normal

few = settings(max_examples=60, deadline=None)


def readings_of(seed: int, size: int, outliers: float) -> list[Reading]:
    """A reading of each plain kind, two of one sensor, one with a covariance of its own."""
    place = (3 * random_normal(seed, size)).numpy()
    value = random_normal(seed + 1, size).numpy()
    covariance = np.eye(size) + 0.3
    vector = position(list(range(size)), size, covariance, outlier_probability=outliers)
    distance = range_to(list(range(size)), size, place, 0.4, outliers, 90.0, scale=-1.1, bias=0.2)
    found = [
        Reading(vector, value),
        Reading(vector, value + 0.5, 2 * covariance),
        Reading(distance, np.array([-abs(value[0]) - 1])),
    ]
    if size > 1:
        direction = bearing([0, 1], size, place[:2], 0.2, outlier_probability=outliers)
        found.append(Reading(direction, value[:1]))
    return found


def plainly(readings: list[list[Reading]], prior: GaussianMixture) -> list[Array]:
    """The fits by their formulas, one channel after another."""
    found = []
    for row, several in enumerate(readings):
        table, used = [], set()
        for reading in several:
            first = id(reading.sensor) not in used
            used.add(id(reading.sensor))
            for place, channel in enumerate(reading.sensor.channels):
                given = reading.covariance
                own = None if given is None else given[place : place + 1, place : place + 1]
                one = Reading(channel, reading.value[place : place + 1], own)
                table.append(plain_fit(one, first, prior.rows(slice(row, row + 1))))
        found.append(np.array(table))
    return found


def plain_fit(reading: Reading, first: bool, prior: GaussianMixture) -> list[float]:
    seen = encode([[reading]], prior.dimension)
    plain = replace(
        seen, mixture=None, deviation_slope=None
    )  # for slope and curvature in units of the stated noise
    near = operators.by_operators(plain, prior.means, torch.linalg.cholesky(prior.covariances))
    weights = prior.log_weights[0].exp().numpy()
    curvature = near.curvature[0, :, 0].numpy()
    base, signed = float(seen.standard_deviation[0, 0]), near.residuals.signed[0, :, 0].numpy()
    offset = signed - 0.5 * np.trace(curvature, axis1=1, axis2=2)
    slope, curved = (
        np.trace(near.information[0, :, 0].numpy(), axis1=1, axis2=2),
        0.5 * (curvature**2).sum((1, 2)),
    )
    noise = reading.sensor.noise or Noise()
    value = float(seen.value[0, 0, 0]) - signed * base
    value = np.arctan2(np.sin(value), np.cos(value)) if bool(seen.wraps[0, 0]) else value
    own = 1 + noise.slope * np.abs(value) / base
    shares, bias = np.array(noise.weights), np.array(noise.biases) / reading.sensor.scale / base
    ratios = np.array(noise.ratios)
    w = (weights[:, None] * shares).ravel()
    m = (offset[:, None] - bias).ravel()
    v = ((slope + curved)[:, None] + (own[:, None] * ratios) ** 2).ravel()
    w, m, v = w[w > 0], m[w > 0], v[w > 0]
    below = (w * norm.cdf(m / np.sqrt(v))).sum()
    above = (w * norm.sf(m / np.sqrt(v))).sum()
    tail = norm.ppf(min(max(min(below, above), SMALLEST), 0.5))
    score = tail if below < above else -tail

    def density(shift: Array) -> Array:
        parts = np.log(w)[:, None] + norm.logpdf(shift - m[:, None], 0, np.sqrt(v)[:, None])
        return np.asarray(logsumexp(parts, 0))

    log_density = float(density(np.zeros(1))[0])
    middle = (w * m).sum()
    variance = (w * (v + (m - middle) ** 2)).sum()
    mean = (shares * bias).sum()
    square = (own[:, None] * ratios) ** 2 + (bias - mean) ** 2
    alone = (weights[:, None] * shares * square).sum()
    stated = float(seen.outlier_probability[0, 0])
    is_linear, log_scale = int(seen.kind[0, 0]) == LINEAR, float(seen.log_scale[0, 0])
    wide = logsumexp(
        np.log(weights[weights > 0]) + norm.logpdf(offset, 0, np.sqrt(slope + curved + 100.0))[weights > 0]
    )
    outlier = wide if stated == 0 or is_linear else float(seen.outlier_log_density[0, 0]) + log_scale
    probability = stated or ASSUMED_OUTLIERS
    nodes, node_weights = np.polynomial.hermite_e.hermegauss(3)
    node_weights = node_weights / node_weights.sum()
    expected = sum(w[k] * node_weights @ density(m[k] + nodes * np.sqrt(v[k])) for k in range(len(w)))
    vague = bool(seen.wraps[0, 0]) and math.sqrt(variance) * base > WIDEST_ANGLE
    bent = (weights * curved).sum() / (weights * (slope + own**2)).sum()
    judged = first and bent <= BENT and not vague
    row = np.zeros(len(Fit))
    row[Fit.SCORE] = score * np.sign(reading.sensor.scale)
    row[Fit.LOG_ODDS] = math.log1p(-probability) - math.log(probability) + log_density - outlier
    row[Fit.SHARE] = min(math.sqrt(alone / variance), 1.0) if judged else 0.0
    row[Fit.DEVIATION] = math.sqrt(variance) * math.exp(log_scale)
    row[Fit.PREDICTED] = reading.value[0] - middle * math.exp(log_scale) * np.sign(reading.sensor.scale)
    row[Fit.EXCESS], row[Fit.STATED] = log_density - expected, probability
    return row.tolist()


@few
@given(
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([0.01, 0.3, 5.0]),
)
def test_fits_are_those_of_the_predictive_mixture(
    seed: int, size: int, count: int, outliers: float, spread: float
) -> None:
    mixture = random_mixture(seed, 3, count, size)
    log_weights = mixture.log_weights.clone()
    log_weights[0, 1:] = -torch.inf
    covariances = spread**2 * mixture.covariances
    prior = GaussianMixture(log_weights.log_softmax(1), mixture.means, covariances)
    readings = [readings_of(seed + row, size, outliers)[: row + 2] for row in range(3)]
    for found, expected in zip(fits(readings, prior), plainly(readings, prior), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("noise", [Noise((0.7, 0.3), (0.0, 0.5), (1.0, 3.0)), Noise(slope=0.2)])
def test_noise_and_functions_of_all_kinds_are_judged(noise: Noise) -> None:
    prior, place = random_mixture(3, 1, 3, 2), [2.0, 1.0]
    chosen = [
        range_to([0, 1], 2, place, 0.4, noise=noise),
        bearing([0, 1], 2, place, 0.1, noise=noise),
        signal_strength([0, 1], 2, place, 3.0, -40.0, 2.0, noise=noise),
        linear([[1.0, 0.2]], [[0.3]], noise=noise, scale=-1.5, bias=0.1),
        function(lambda state: state[0] * state[1], [0, 1], 2, 0.5, noise=noise),
    ]
    readings = [[Reading(sensor, np.array([0.7])) for sensor in chosen]]
    (found,), (expected,) = fits(readings, prior), plainly(readings, prior)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-7)


def test_a_value_that_is_not_a_number_is_not_judged() -> None:
    sensor = position([0], 1, [[1.0]])
    (found,) = fits([[Reading(sensor, np.array([np.nan]))]], random_mixture(1, 1, 2, 1))
    assert found[0, Fit.SHARE] == 0
    assert np.isfinite(found).all()


@pytest.mark.parametrize("count", [1, 3])
def test_readings_far_out_have_a_finite_score(count: int) -> None:
    sensor = position([0], 1, [[1.0]])
    readings = [[Reading(sensor, np.array([1e9]))]]
    prior = random_mixture(2, 1, count, 1)
    (found,), (expected,) = fits(readings, prior), plainly(readings, prior)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isfinite(found).all()
