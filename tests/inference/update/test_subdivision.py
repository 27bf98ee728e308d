"""Subdivision of the plane against an oracle that shares no code with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import bearing, position, range_to
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, Sensor
from beliefstream.inference.update import importance, subdivision
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.plane_cells import lines
from beliefstream.inference.update.result import Method, Update
from beliefstream.inference.update.settings import UpdateSettings
from research.evaluation.adversarial.answers import stacked
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.oracle import Exact, solve
from research.evaluation.adversarial.problems import gaussian

PLANE = (0, 1)
SETTINGS = UpdateSettings()
WIDE = gaussian([0.0, 0.0], [60.0, 60.0])
ARC = Mixture(
    np.full(16, 1 / 16),
    np.stack([100 * np.cos(np.linspace(0, 2, 16)), 100 * np.sin(np.linspace(0, 2, 16))], 1),
    np.stack(
        [
            36 * np.outer(along, along) + 0.25 * np.outer(across, across)
            for turn in np.linspace(0, 2, 16)
            for along, across in [
                (np.array([-math.sin(turn), math.cos(turn)]), np.array([math.cos(turn), math.sin(turn)]))
            ]
        ]
    ),
)  # what a range leaves


def sensor(kind: str, where: Sequence[float], noise: float, outlier: float = 0.0) -> Sensor:
    if kind == "range":
        return range_to(PLANE, 2, where, noise, outlier, 500.0)
    return bearing(PLANE, 2, where, noise, outlier)


def posed(prior: Mixture, readings: Sequence[Reading]) -> LocalProblem:
    observations = encode([tuple(readings)], 2)
    return LocalProblem.of(stacked([prior]), observations, [0, 1], torch.device("cpu"), torch.float64)


def exact(prior: Mixture, readings: Sequence[Reading]) -> Exact:
    return solve(prior, tuple(readings), np.random.default_rng(5))


def mixture(update: Update) -> Mixture:
    posterior = update.posterior
    weights = posterior.log_weights[0].exp().numpy()
    there = weights > 0
    return Mixture(weights[there], posterior.means[0, there].numpy(), posterior.covariances[0, there].numpy())


def likely(count: int = 1) -> Tensor:
    return torch.full((count,), 0.5, dtype=torch.float64)


PROBLEMS = [
    pytest.param(WIDE, sensor("range", [20.0, -30.0], 0.5), [90.0], id="ring"),
    pytest.param(WIDE, sensor("range", [20.0, -30.0], 0.5, 0.2), [90.0], id="ring or outlier"),
    pytest.param(WIDE, sensor("range", [200.0, 0.0], 0.2), [190.0], id="thin arc"),
    pytest.param(WIDE, sensor("bearing", [-40.0, 10.0], 0.03), [0.4], id="beam"),
    pytest.param(WIDE, sensor("bearing", [-5.0, 10.0], 0.03, 0.1), [3.1], id="beam from inside"),
    pytest.param(ARC, sensor("range", [0.0, 120.0], 0.5), [110.0], id="arc and ring"),
    pytest.param(ARC, sensor("range", [0.0, 0.0], 0.5), [100.0], id="arc along a ring"),
    # at first, the sensor lies in the same cell as the part of the arc that it sees
    pytest.param(ARC, sensor("bearing", [90.0, 20.0], 0.03, 0.1), [1.9], id="arc and a near beam"),
    pytest.param(ARC, sensor("bearing", [0.0, -40.0], 0.03, 0.1), [1.1], id="arc and beam"),
]


@pytest.mark.parametrize(("prior", "source", "value"), PROBLEMS)
def test_an_answer_has_the_exact_evidence_and_says_how_far_it_is_off(
    prior: Mixture, source: Sensor, value: list[float]
) -> None:
    readings = [Reading(source, np.array(value))]
    index, update = subdivision.subdivided(posed(prior, readings), likely(), SETTINGS)
    assert index.tolist() == [0] and update is not None
    truth = exact(prior, readings)
    distance = truth.divergence(mixture(update))
    assert float(update.log_evidence[0]) == pytest.approx(truth.log_evidence, abs=0.05)
    assert -0.05 - 2 * distance.error < float(update.divergence[0]) - distance.value < 0.15
    assert float(update.effective_sample_size[0]) <= math.exp(-2 * distance.value) + 0.1
    assert distance.value < 1.0
    assert update.method.tolist() == [Method.REFINED]
    assert update.posterior.components <= SETTINGS.most_components


def test_a_fit_begins_with_all_parts_however_many_there_are() -> None:
    """A ring along an arc has many windows for each component."""
    readings = [Reading(sensor("range", [0.0, 0.0], 0.02), np.array([100.0]))]
    local = posed(ARC, readings)
    found = lines(local, SETTINGS.most_components)
    assert found.start is not None and bool(found.start.present.any())
    mean, covariance = found.moments()
    begun, spread = found.start.moments()
    torch.testing.assert_close(begun, mean, rtol=0, atol=0.02)
    torch.testing.assert_close(spread, covariance, rtol=0, atol=0.02)


def test_lines_do_not_depend_on_their_batch() -> None:
    """Neither strips and nodes, nor what is measured on them."""
    readings = [
        Reading(sensor("range", [20.0, 5.0 * i], 0.5, 0.1 * (i % 2)), np.array([90.0 - i])) for i in range(18)
    ]
    priors = stacked([ARC if i % 3 else WIDE for i in range(18)])
    observations = encode([(each,) for each in readings], 2)
    local = LocalProblem.of(priors, observations, [0, 1], torch.device("cpu"), torch.float64)
    together = lines(local, 16)
    answers = GaussianMixture.gaussian(*together.moments())
    qualities, drawn = together.quality(answers), together.draw(50)
    for place in range(18):
        row = torch.tensor([place])
        alone = lines(local.rows(row), 16)
        spans = zip(together.places[place][::2], alone.places[0][::2], strict=True)
        (first, other), (end, last) = spans
        for whole, part in zip(together.strips, alone.strips, strict=True):
            np.testing.assert_array_equal(whole[first:end], part[other:last])
        (first, end), (other, last) = together.node_places[place], alone.node_places[0]
        for whole, part in zip(together.nodes, alone.nodes, strict=True):
            np.testing.assert_array_equal(whole[first:end], part[other:last])
        picked = together.rows(row)
        for one, another in zip(
            alone.quality(answers.rows(row)), picked.quality(answers.rows(row)), strict=True
        ):
            assert torch.equal(one, another)
        assert torch.equal(alone.quality(answers.rows(row)).divergence, qualities.divergence[row])
        assert torch.equal(picked.draw(50), drawn[row])
        torch.testing.assert_close(alone.moments(), picked.moments(), rtol=0, atol=1e-14)


def test_an_answer_measured_on_lines_has_the_quality_of_importance_points() -> None:
    """Nodes have a share each, so that they are importance points whose weights are known."""
    readings = [Reading(sensor("range", [20.0, -30.0], 2.0, 0.1), np.array([90.0]))]
    found = lines(posed(ARC, readings), 16)
    assert found.start is not None
    first, end = found.node_places[0]
    points, shares, targets = (torch.from_numpy(part[first:end])[None] for part in found.nodes)
    proposal = targets - found.log_evidence[:, None] - shares.log() - math.log(shares.shape[1])
    nothing = targets.new_zeros(1, 0, end - first)
    weighted = importance.Weighted(points, targets, proposal, found.start.log_density(points), nothing)
    expected, measured = importance.quality(weighted), found.quality(found.start)
    assert 0 < float(measured.divergence[0]) < 0.3
    for name in ("effective_sample_size", "log_evidence", "divergence"):
        torch.testing.assert_close(getattr(measured, name), getattr(expected, name), rtol=1e-9, atol=1e-9)


def test_points_of_equal_shares_have_the_moments_of_all_nodes() -> None:
    readings = [Reading(sensor("range", [20.0, -30.0], 2.0), np.array([90.0]))]
    found = lines(posed(WIDE, readings), 16)
    mean, covariance = found.moments()
    points = found.draw(4000)[0]
    torch.testing.assert_close(points.mean(0), mean[0], rtol=0, atol=0.01)
    torch.testing.assert_close(points.T.cov(), covariance[0], rtol=0, atol=0.01)


def test_an_answer_keeps_a_wide_component() -> None:
    readings = [Reading(sensor("range", [20.0, -30.0], 0.5), np.array([90.0]))]
    _, update = subdivision.subdivided(posed(WIDE, readings), likely(), SETTINGS)
    assert update is not None
    points = torch.tensor(
        [[[20.0, -30.0], [-150.0, 100.0]]], dtype=torch.float64
    )  # the middle, and far outside
    assert float(update.posterior.log_density(points).min()) > -25


def test_an_answer_does_not_depend_on_its_batch() -> None:
    readings = [Reading(sensor("range", [20.0, 5.0 * i], 0.5), np.array([90.0 - i])) for i in range(3)]
    priors = stacked([WIDE, ARC, WIDE])
    together = LocalProblem.of(
        priors, encode([(each,) for each in readings], 2), [0, 1], torch.device("cpu"), torch.float64
    )
    index, update = subdivision.subdivided(together, likely(3), SETTINGS)
    assert update is not None and index.tolist() == [0, 1, 2]
    for place in index.tolist():
        _, alone = subdivision.subdivided(together.rows(torch.tensor([place])), likely(), SETTINGS)
        assert alone is not None
        assert float(update.divergence[place]) == pytest.approx(float(alone.divergence[0]), abs=1e-12)
        count = alone.posterior.components
        torch.testing.assert_close(
            update.posterior.means[place, :count], alone.posterior.means[0], rtol=0, atol=0
        )


@pytest.mark.parametrize(
    ("source", "value", "surprise"),
    [
        (sensor("range", [20.0, -30.0], 0.5), [90.0], 1e-10),
        (sensor("range", [20.0, -30.0], 0.5), [90.0], math.nan),
        (position(PLANE, 2, 4.0 * np.eye(2), 0.1), [30.0, -20.0], 0.0005),
    ],
)
def test_a_surprising_observation_is_left_to_a_search(
    source: Sensor, value: list[float], surprise: float
) -> None:
    readings, unlikely = [Reading(source, np.array(value))], torch.tensor([surprise], dtype=torch.float64)
    assert subdivision.subdivided(posed(WIDE, readings), unlikely, SETTINGS)[1] is None


@pytest.mark.parametrize("outlier", [0.0, 0.02, 0.2])
@pytest.mark.parametrize(
    ("kind", "where", "value"),
    [("range", [200.0, 0.0], [470.0]), ("bearing", [-400.0, 0.0], [0.75])],
)
def test_a_surprising_range_or_bearing_is_solved(
    kind: str, where: list[float], value: list[float], outlier: float
) -> None:
    """It lies more than four standard deviations from where it was expected."""
    readings = [Reading(sensor(kind, where, 0.5 if kind == "range" else 0.03, outlier), np.array(value))]
    unlikely = torch.tensor([1e-5], dtype=torch.float64)
    _, update = subdivision.subdivided(posed(WIDE, readings), unlikely, SETTINGS)
    assert update is not None
    truth = exact(WIDE, readings)
    distance = truth.divergence(mixture(update))
    assert float(update.log_evidence[0]) == pytest.approx(truth.log_evidence, abs=0.05)
    assert -0.05 - 2 * distance.error < float(update.divergence[0]) - distance.value < 0.15


def test_outliers_of_several_components_need_no_search() -> None:
    """An arc that an outlier leaves, and a part of a ring along it: more than the components of an answer."""
    readings = [Reading(sensor("range", [0.0, 1.0], 0.5, 0.2), np.array([102.2]))]
    index, update = subdivision.subdivided(posed(ARC, readings), likely(), SETTINGS)
    assert index.tolist() == [0] and update is not None
    distance = exact(ARC, readings).divergence(mixture(update))
    assert distance.value < 0.25
    assert float(update.divergence[0]) == pytest.approx(distance.value, abs=0.05 + 3 * distance.error)


def test_several_observations_are_left_to_a_search() -> None:
    readings = [Reading(sensor("range", [20.0, -30.0], 0.5), np.array([90.0]))] * 2
    assert subdivision.subdivided(posed(WIDE, readings), likely(), SETTINGS)[1] is None


def test_a_ring_too_thin_for_its_components_says_so() -> None:
    readings = [Reading(sensor("range", [20.0, -30.0], 0.005), np.array([90.0]))]
    _, update = subdivision.subdivided(posed(WIDE, readings), likely(), SETTINGS)
    assert update is not None
    distance = exact(WIDE, readings).divergence(mixture(update))
    assert distance.value > 1.0
    assert float(update.divergence[0]) == pytest.approx(distance.value, abs=0.05 + 3 * distance.error)
    assert float(update.effective_sample_size[0]) < 0.01


def test_an_observation_far_off_the_prior_gives_no_answer_that_claims_to_be_good() -> None:
    """Also where the surprise does not say so."""
    readings = [Reading(sensor("range", [0.0, 0.0], 0.05), np.array([700.0]))]
    _, update = subdivision.subdivided(posed(WIDE, readings), likely(), SETTINGS)
    if update is not None:
        distance = exact(WIDE, readings).divergence(mixture(update)).value
        assert float(update.effective_sample_size[0]) <= math.exp(-2 * distance) + 0.1


def test_an_answer_that_must_be_better_is_left_to_refinement() -> None:
    readings = [Reading(sensor("range", [20.0, -30.0], 0.5), np.array([90.0]))]
    lasting = UpdateSettings(refine_below=0.999, repeat_below=0.98)
    assert subdivision.subdivided(posed(WIDE, readings), likely(), lasting)[1] is None


def test_a_position_that_may_be_an_outlier_is_solved() -> None:
    readings = [Reading(position(PLANE, 2, 4.0 * np.eye(2), 0.1), np.array([30.0, -20.0]))]
    _, update = subdivision.subdivided(posed(WIDE, readings), likely(), SETTINGS)
    assert update is not None
    truth = exact(WIDE, readings)
    assert float(update.log_evidence[0]) == pytest.approx(truth.log_evidence, abs=0.05)
    assert float(update.divergence[0]) == pytest.approx(truth.divergence(mixture(update)).value, abs=0.05)
