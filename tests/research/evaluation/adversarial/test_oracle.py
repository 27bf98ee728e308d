"""The oracle against closed forms, quadrature and itself with finer cells."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, special

from beliefstream.inference.sensors import function, linear, range_to
from beliefstream.inference.sensors.readings import Reading
from research.evaluation.adversarial.families import problems
from research.evaluation.adversarial.grid import posterior
from research.evaluation.adversarial.makers.shapes import sine
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.oracle import Exact, Points, solve
from research.evaluation.adversarial.problems import gaussian, mixture
from tests.research.evaluation.adversarial.closed_forms import gaussian_divergence, linear_update


def draws(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("size", "seen"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 2), (9, 3)])
def test_a_linear_sensor_gives_the_closed_form(size: int, seen: int) -> None:
    generator = draws(size)
    prior = mixture(generator, size, 3)
    matrix, noise = np.eye(size)[:seen] * 1.5, 0.2 * np.eye(seen)
    value = generator.standard_normal(seen)
    closed, evidence = linear_update(prior, matrix, noise, value)
    exact = solve(prior, [Reading(linear(matrix, noise), value)], draws())
    assert abs(exact.log_evidence - evidence) < 0.02
    assert exact.error < 0.03
    distance = exact.divergence(closed)
    assert abs(distance.value) < 0.02


@pytest.mark.parametrize("size", [2, 6])
def test_the_divergence_from_another_gaussian_is_the_closed_one(size: int) -> None:
    prior = gaussian(np.zeros(size), 1.0)
    matrix, noise = np.eye(size)[:2], 0.5 * np.eye(2)
    closed, _ = linear_update(prior, matrix, noise, np.array([0.4, -0.3]))
    other = Mixture(closed.weights, closed.means + 0.3, closed.covariances * 1.7)
    exact = solve(prior, [Reading(linear(matrix, noise), np.array([0.4, -0.3]))], draws())
    assert exact.divergence(other).value == pytest.approx(gaussian_divergence(closed, other), abs=0.03)


def test_a_sine_gives_the_integral_of_a_quadrature() -> None:
    prior, frequency, noise, value = gaussian([0.3], 1.0), 4.0, 0.1, 0.5

    def density(x: float) -> float:
        residual = (value - math.sin(frequency * x)) / noise
        return math.exp(-0.5 * (x - 0.3) ** 2 - 0.5 * residual**2) / (2 * math.pi * noise)

    area = integrate.quad(density, -8, 8, limit=500, epsabs=1e-12)[0]
    sensor = function(sine, [0], 1, noise, {"frequency": frequency})
    exact = solve(prior, [Reading(sensor, np.array([value]))], draws())
    assert exact.log_evidence == pytest.approx(math.log(area), abs=2e-3)


@pytest.mark.parametrize("noise", [0.3, 1e-2, 1e-3])
@pytest.mark.parametrize("size", [2, 3])
def test_a_range_has_the_evidence_of_its_law(noise: float, size: int) -> None:
    # the distance of a Gaussian from a point: Rice in the plane, non-central chi with three degrees in space
    away, value = 1.3, 2.0

    def law(r: float) -> float:
        if size == 2:
            return r * math.exp(-0.5 * (r - away) ** 2) * float(special.ive(0, r * away))
        return (
            r
            / away
            * (math.exp(-0.5 * (r - away) ** 2) - math.exp(-0.5 * (r + away) ** 2))
            / math.sqrt(2 * math.pi)
        )

    def density(r: float) -> float:
        return law(r) * math.exp(-0.5 * ((value - r) / noise) ** 2) / (noise * math.sqrt(2 * math.pi))

    area = integrate.quad(density, max(value - 9 * noise, 0), value + 9 * noise, epsabs=1e-12)[0]
    place = np.zeros(size)
    place[0] = away
    sensor = range_to(range(size), size, place, noise)
    exact = solve(gaussian(np.zeros(size), 1.0), [Reading(sensor, np.array([value]))], draws())
    assert exact.log_evidence == pytest.approx(math.log(area), abs=max(0.01, 3 * exact.error))
    assert exact.error < 0.1


def test_two_ranges_leave_both_places() -> None:
    # two anchors on a line: the place and its mirror image, told apart by the prior alone
    prior, noise = gaussian([0.0, 0.1], 1.0), 1e-3
    there = np.array([0.5, 1.0])
    readings = [
        Reading(range_to((0, 1), 2, where, noise), np.array([float(np.linalg.norm(there - where))]))
        for where in (np.array([-2.0, 0.0]), np.array([2.0, 0.0]))
    ]
    exact = solve(prior, readings, draws())
    points, share, _ = exact.runs[0]
    above = float(share[points[1] > 0].sum())
    odds = math.exp(-0.5 * (1.0 - 0.1) ** 2 + 0.5 * (1.0 + 0.1) ** 2)
    assert above / (1 - above) == pytest.approx(odds, rel=0.02)
    assert np.allclose(np.abs(points[1]), 1.0, atol=0.02)


def test_a_probability_of_zero_is_zero() -> None:
    # ten standard deviations off and no outliers: a probability of 1e-12 in its place would keep the prior
    sensor = range_to((0, 1), 2, np.array([0.0, 0.0]), 1.0)
    exact = solve(gaussian([12.0, 0.0], 1.0), [Reading(sensor, np.array([1.0]))], draws())
    points, share, _ = exact.runs[0]
    assert float(share @ points[0]) == pytest.approx(6.5, abs=0.15)


def test_finer_cells_change_no_evidence() -> None:
    for problem in problems("planar", 6, 5) + problems("reflections", 4, 5):
        coarse = solve(problem.prior, problem.readings, draws())
        fine = posterior(coarse.target, 8000, draws(2), change=0.4)
        assert abs(coarse.log_evidence - fine.log_evidence) < max(0.006, 2 * coarse.error)


def test_a_sample_of_the_cells_agrees_with_all_of_them() -> None:
    off = []
    for problem in problems("planar", 8, 6):
        whole = solve(problem.prior, problem.readings, draws())
        sampled = posterior(whole.target, 60, draws(3))
        off.append(sampled.log_evidence - whole.log_evidence)
    assert max(map(abs, off)) < 0.3
    assert abs(sum(off)) / len(off) < 0.1


def two_places() -> tuple[Exact, Mixture, Mixture]:
    """A place and its mirror image, an answer with both, and one that has almost nothing of the second."""
    there, noise = np.array([0.5, 1.0]), 0.05
    readings = [
        Reading(range_to((0, 1), 2, where, noise), np.array([float(np.linalg.norm(there - where))]))
        for where in (np.array([-2.0, 0.0]), np.array([2.0, 0.0]))
    ]
    exact = solve(gaussian([0.0, 0.0], 1.0), readings, draws())
    points, share, _ = exact.runs[0]
    means, covariances = [], []
    for side in (points[1] > 0, points[1] < 0):
        weights = share[side] / share[side].sum()
        means.append(points[:, side] @ weights)
        around = points[:, side] - means[-1][:, None]
        covariances.append((weights * around) @ around.T)
    both = Mixture(np.full(2, 0.5), np.array(means), np.array(covariances))
    spread = np.array([covariances[0], 0.2 * np.eye(2)])
    return exact, both, Mixture(np.array([1 - 1e-3, 1e-3]), np.array(means), spread)


def test_mass_that_was_missed_is_seen() -> None:
    exact, both, _ = two_places()
    assert exact.missed(both, draws()) < 0.01
    points, share, log = exact.runs[0]
    above = points[1] > 0
    mass = float(share[above].sum())
    half = Points(points[:, above], share[above] / mass, log[above] - math.log(mass))
    lost = replace(exact, runs=[half], log_evidence=exact.log_evidence + math.log(mass))
    assert lost.missed(both, draws()) > 0.15


def test_mass_that_the_answer_lacks_is_not_taken_for_missed() -> None:
    exact, _, lacking = two_places()
    assert max(exact.missed(lacking, draws(seed)) for seed in range(100)) < 0.02


def test_an_answer_that_is_no_density_is_infinitely_far() -> None:
    problem = problems("planar", 1, 7)[0]
    exact = solve(problem.prior, problem.readings, draws())
    crooked = Mixture(np.ones(1), np.zeros((1, 2)), np.array([[[1.0, 2.0], [2.0, 1.0]]]))
    assert exact.divergence(crooked).value == math.inf
