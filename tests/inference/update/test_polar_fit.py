"""Fits to the lines around a sensor, beside an oracle that shares no code with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import bearing, range_to
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, Sensor
from beliefstream.inference.update.polar_quadrature import surround
from beliefstream.inference.update.result import Method, Update
from beliefstream.inference.update.scaled_problem import pose
from beliefstream.inference.update.settings import UpdateSettings
from research.evaluation.adversarial.answers import stacked
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.oracle import solve
from research.evaluation.adversarial.problems import gaussian
from tests.inference.update.test_polar_quadrature import crossing

SETTINGS = UpdateSettings()
AXES = [2, 0]  # the coordinates of the plane
WIDE = gaussian([0.0, 0.0], [60.0, 60.0])
TURNS = np.linspace(0, 2, 16)
ACROSS, ALONG = (
    np.stack(pair, 1) for pair in ((np.cos(TURNS), np.sin(TURNS)), (-np.sin(TURNS), np.cos(TURNS)))
)
ARC = Mixture(  # what a range leaves
    np.full(16, 1 / 16),
    100 * ACROSS,
    36 * np.einsum("ki,kj->kij", ALONG, ALONG) + 0.25 * np.einsum("ki,kj->kij", ACROSS, ACROSS),
)


def sensor(kind: str, where: Sequence[float], noise: float, outlier: float = 0.0) -> Sensor:
    if kind == "range":
        return range_to((0, 1), 2, where, noise, outlier, 500.0)
    return bearing((0, 1), 2, where, noise, outlier)


def mixture(update: Update) -> Mixture:
    posterior = update.posterior
    weights = posterior.log_weights[0].exp().numpy()
    there = weights > 0
    return Mixture(weights[there], posterior.means[0, there].numpy(), posterior.covariances[0, there].numpy())


def surrounded(
    prior: GaussianMixture, observations: Observations, chosen: UpdateSettings = SETTINGS
) -> tuple[Tensor, Update]:
    """Places and answers."""
    posed = pose(prior, observations, math.inf)
    every = torch.ones(prior.batch, dtype=torch.bool)
    ((index, update),) = surround(posed.scaled, posed.touched, every, chosen)
    return index, update


def priors(batch: int, components: int) -> GaussianMixture:
    """Wide priors over four coordinates, whose plane is that of `AXES`, correlated with the others."""
    random = torch.Generator().manual_seed(components)
    root = torch.randn(batch, components, 4, 4, generator=random, dtype=torch.float64)
    means = torch.randn(batch, components, 4, generator=random, dtype=torch.float64)
    logs = torch.log_softmax(torch.randn(batch, components, generator=random, dtype=torch.float64), 1)
    covariances = 400 * (root @ root.mT / 4 + 0.3 * torch.eye(4, dtype=torch.float64))
    return GaussianMixture(logs, 30 * means, covariances).ordered()


def observed(batch: int, outliers: float) -> Observations:
    """Ranges and bearings in turns."""
    kinds: list[Sensor] = [
        sensors.range_to(AXES, 4, [40.0, -25.0], 0.5, outliers, 500.0),
        sensors.bearing(AXES, 4, [-60.0, 10.0], 0.01, outliers),
    ]
    values = (50.0, 0.2)
    return encode([[Reading(kinds[i % 2], np.array([values[i % 2] + 0.01 * i]))] for i in range(batch)], 4)


@pytest.mark.parametrize("components", [1, 6])
def test_a_fit_does_not_depend_on_its_batch(components: int) -> None:
    prior, observations = priors(8, components), observed(8, 0.1)
    index, together = surrounded(prior, observations)
    for row, place in enumerate(index.tolist()):
        one = torch.tensor([place])
        _, alone = surrounded(prior.rows(one), observations.rows_of(one))
        assert float(alone.divergence[0]) == float(together.divergence[row])
        count = alone.posterior.components
        assert torch.equal(alone.posterior.means[0], together.posterior.means[row, :count])


@pytest.mark.parametrize(
    ("prior", "source", "value"),
    [
        pytest.param(WIDE, sensor("range", [20.0, -30.0], 0.5), 90.0, id="ring"),
        pytest.param(WIDE, sensor("range", [20.0, -30.0], 0.5, 0.2), 90.0, id="ring or outlier"),
        pytest.param(ARC, sensor("range", [0.0, 0.0], 0.5), 100.0, id="arc along a ring"),
        pytest.param(WIDE, sensor("bearing", [-5.0, 10.0], 0.03, 0.1), 3.1, id="beam from inside"),
        # its direction is less likely than any that lines are usually taken for
        pytest.param(WIDE, sensor("bearing", [110.0, 55.0], 0.03, 0.1), 0.352, id="beam that leads away"),
    ],
)
def test_a_fit_says_how_far_it_is_from_the_exact_posterior(
    prior: Mixture, source: Sensor, value: float
) -> None:
    reading = Reading(source, np.array([value]))
    _, update = surrounded(stacked([prior]).ordered(), encode([(reading,)], 2))
    truth = solve(prior, (reading,), np.random.default_rng(5))
    distance = truth.divergence(mixture(update))
    assert float(update.log_evidence[0]) == pytest.approx(truth.log_evidence, abs=0.05)
    assert -0.05 - 2 * distance.error < float(update.divergence[0]) - distance.value < 0.15
    assert float(update.effective_sample_size[0]) <= math.exp(-2 * distance.value) + 0.1


@pytest.mark.parametrize(("outliers", "is_solved"), [(0.1, True), (0.0, False)])
def test_a_beam_that_leads_away_is_solved_only_where_nothing_of_it_is_too_far(
    outliers: float, is_solved: bool
) -> None:
    prior = stacked([gaussian([0.0, 0.0], [60.0, 60.0])])
    source = bearing((0, 1), 2, [330.0, 165.0], 0.0003, outliers)
    observations = encode([(Reading(source, np.array([0.463])),)], 2)
    posed = pose(prior, observations, math.inf)
    found = list(surround(posed.scaled, posed.touched, torch.ones(1, dtype=torch.bool), SETTINGS))
    assert bool(found) == is_solved


def test_a_poor_fit_is_searched_only_where_more_is_asked_of_a_refined_answer() -> None:
    prior = stacked([crossing()[0]])
    reading = Reading(range_to((0, 1), 2, [60.0, 10.0], 0.02, 0.5, 500.0), np.array([55.0]))
    observations = encode([(reading,)], 2)
    posed = pose(prior, observations, math.inf)
    every = torch.ones(1, dtype=torch.bool)
    few = replace(SETTINGS, components=4)
    ((_, found),) = surround(posed.scaled, posed.touched, every, replace(few, repeat_below=0.5))
    assert 0 < float(found.effective_sample_size[0]) < 0.5
    assert list(surround(posed.scaled, posed.touched, every, few)) == []
    truth = solve(crossing()[0], (reading,), np.random.default_rng(5))
    distance = truth.divergence(mixture(found))
    assert float(found.divergence[0]) > distance.value - 0.05 - 2 * distance.error


def test_where_little_is_asked_fewer_mixtures_are_fitted_and_answers_lose_hardly_more() -> None:
    prior, observations = priors(48, 6), observed(48, 0.1)
    (places, usual), (others, found) = (
        surrounded(prior, observations, replace(SETTINGS, repeat_below=least)) for least in (0.9, 0.5)
    )
    assert places.tolist() == others.tolist()
    fitted = [int((update.method == Method.REFINED).sum()) for update in (usual, found)]
    assert 0 < fitted[1] < fitted[0]
    assert float((found.divergence - usual.divergence).mean()) < 0.005
