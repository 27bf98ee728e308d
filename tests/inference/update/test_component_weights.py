"""Weights of modes that lie apart, held against closed forms and an exact filter on a grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from beliefstream.inference import sensors
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import weights
from beliefstream.inference.sensors import Reading, encode
from beliefstream.inference.update.component_weights import apart, reweighted
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.updater import Updater
from research.evaluation.adversarial.answers import chain_answers
from research.evaluation.adversarial.chains import random_walk
from research.evaluation.adversarial.problems import source

WORKER = UpdateSettings(refine_below=0.9, repeat_below=0.5)


def two_modes() -> tuple[LocalProblem, GaussianMixture, float]:
    """A position between two places ten deviations apart, its exact posterior, and the log odds of the first."""
    variance, noise, value = np.array([1.0, 0.5]), 2.0, 1.5
    means, first = np.array([-5.0, 5.0]), np.array([0.9, 0.1])
    reading = Reading(sensors.position([0], 1, [[noise]]), np.array([value]))
    prior = GaussianMixture.from_weights(
        *(torch.from_numpy(part)[None] for part in (first, means[:, None], variance[:, None, None]))
    )
    gain = variance / (variance + noise)
    evidence = np.exp(-0.5 * (value - means) ** 2 / (variance + noise)) / np.sqrt(variance + noise)
    exact = first * evidence / (first @ evidence)
    posterior = GaussianMixture.from_weights(
        torch.from_numpy(exact)[None],
        torch.from_numpy(means + gain * (value - means))[None, :, None],
        torch.from_numpy((1 - gain) * variance)[None, :, None, None],
    )
    local = LocalProblem.of(prior, encode([[reading]], 1), [0], torch.device("cpu"), torch.float64)
    return local, posterior, float(np.log(exact[0] / exact[1]))


def test_wrong_weights_of_two_modes_are_corrected() -> None:
    local, posterior, exact = two_modes()
    wrong = replace(posterior, log_weights=torch.tensor([[0.5, 0.5]], dtype=torch.float64).log())
    found = reweighted(local, wrong).log_weights[0]
    assert abs(float(found.exp().sum()) - 1) < 1e-12
    np.testing.assert_allclose(float(found[0] - found[1]), exact, atol=1e-6)


def test_components_that_overlap_keep_their_weights() -> None:
    local, posterior, _ = two_modes()
    near = replace(posterior, means=0.2 * posterior.means)
    assert apart(posterior).tolist() == [True]
    assert apart(near).tolist() == [False]
    assert torch.equal(reweighted(local, near).log_weights, near.log_weights)


def test_the_odds_of_two_mirror_images_do_not_drift() -> None:
    """Ranges from two anchors never tell the images apart; the network's weights alone are .31 nats off here."""
    chain = random_walk(source("filters, random walk", 406, 6), 80)
    (answer,) = chain_answers([chain], Updater(weights.load(), settings=WORKER))
    exact = chain.exact(np.random.default_rng(1))
    assert exact.divergence(answer.mixture).value < 0.05
