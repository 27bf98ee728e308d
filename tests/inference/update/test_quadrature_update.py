"""Where quadrature is refused although the observations are weak at its nodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network.weights import load
from beliefstream.inference.sensors import Reading, encode, function
from beliefstream.inference.update.updater import Updater

NOISE, OUTLIERS, SPAN, VALUE = 0.077, 0.05, 10.0, 0.3


def root(u: Tensor) -> Tensor:
    return torch.sqrt(u[0])


@pytest.mark.parametrize("edge", [1e-6, 0.3, 0.6, 1.2, 1.8, 2.3])
def test_a_function_that_is_undefined_at_the_nodes_does_not_hide_mass_beyond(edge: float) -> None:
    """The value is an outlier, or the state lies just beyond the edge; the exact evidence is a dense sum."""
    states = np.linspace(-8, 8, 400_001)
    with np.errstate(invalid="ignore"):
        residual = (VALUE - np.sqrt(states - edge)) / NOISE
    inlier = np.nan_to_num(np.exp(-0.5 * residual**2) / (NOISE * np.sqrt(2 * np.pi)))
    likelihood = (1 - OUTLIERS) * inlier + OUTLIERS / SPAN
    prior = np.exp(-0.5 * states**2) / np.sqrt(2 * np.pi)
    share = prior * likelihood
    evidence = share.sum() * (states[1] - states[0])

    sensor = function(root, [0], 1, NOISE, None, OUTLIERS, SPAN, origin=np.array([edge]))
    one = torch.zeros(1, 1, 1, dtype=torch.float64)
    found = Updater(load()).update(
        GaussianMixture.gaussian(one[:, 0], one + 1), encode([[Reading(sensor, np.array([VALUE]))]], 1)
    )
    assert float(found.log_evidence[0]) == pytest.approx(np.log(evidence), abs=0.1)
    mean = float(found.posterior.moments()[0][0, 0])
    assert mean == pytest.approx(float(states @ share / share.sum()), abs=0.05)


def logarithm(u: Tensor) -> Tensor:
    return torch.log(u[0])


@pytest.mark.parametrize(("edge", "value"), [(-1.448, -2.88), (-1.2, -3.5), (1.0, -3.0)])
def test_a_steep_function_does_not_hide_mass_in_a_thin_slice(edge: float, value: float) -> None:
    """The value is an outlier, or the state lies some hundredths beyond the edge; the exact evidence is a dense sum."""
    noise = 0.103
    logs = np.linspace(-12, 3, 400_001)  # of the distance from the edge
    states = edge + np.exp(logs)
    prior = np.exp(-0.5 * states**2) / np.sqrt(2 * np.pi)
    inlier = np.exp(-0.5 * ((value - logs) / noise) ** 2) / (noise * np.sqrt(2 * np.pi))
    share = prior * inlier * np.exp(logs)
    found_there = (1 - OUTLIERS) * share.sum() * (logs[1] - logs[0])
    evidence = found_there + OUTLIERS / SPAN

    sensor = function(logarithm, [0], 1, noise, None, OUTLIERS, SPAN, origin=np.array([edge]))
    one = torch.zeros(1, 1, 1, dtype=torch.float64)
    found = Updater(load()).update(
        GaussianMixture.gaussian(one[:, 0], one + 1), encode([[Reading(sensor, np.array([value]))]], 1)
    )
    assert float(found.log_evidence[0]) == pytest.approx(np.log(evidence), abs=0.1)
    mean = float(states @ share / share.sum()) * found_there / evidence
    assert float(found.posterior.moments()[0][0, 0]) == pytest.approx(mean, abs=0.05)
