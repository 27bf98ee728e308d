"""Updates with likelihoods of the user, against grids and closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from numpy.typing import NDArray

from beliefstream.inference.likelihood.example_problems import ProximityDetector
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import weights
from beliefstream.inference.sensors import Reading, Sensor, encode, linear, of_problem, range_to
from beliefstream.inference.update.result import Answer, Method
from beliefstream.inference.update.updater import Updater

Array = NDArray[np.float64]
PLANE = {"x": 0, "y": 1}
COUNTER = np.array([1.0, -0.5])


class Counts:
    """Counts of a beacon of known strength, at a counter that moves."""

    parameters: Any = {"x": "real", "y": "real"}  # noqa: RUF012
    data: Any = {"count": "count"}  # noqa: RUF012
    context: Any = ("x0", "y0", "exposure")

    def law(self, parameters: Any, context: Any) -> Any:
        squared = (parameters["x"] - context["x0"]) ** 2 + (parameters["y"] - context["y0"]) ** 2
        return torch.distributions.Poisson(context["exposure"] * (1 + 20 / (squared + 0.5)))

    def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
        return {"count": torch.poisson(self.law(parameters, context).rate, generator=generator)}

    def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
        return self.law(parameters, context).log_prob(data["count"])


class Detector:
    """Detects what lies to its right, most of the time, and nothing at all to its left."""

    parameters: Any = {"x": "real"}  # noqa: RUF012
    data: Any = {"detected": "binary"}  # noqa: RUF012
    context: Any = ()

    def probability(self, parameters: Any) -> Any:
        x = parameters["x"]
        return torch.where(x > 0, 0.9 * torch.exp(-x.clamp_min(0) / 3), 0.0)

    def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
        return {"detected": torch.bernoulli(self.probability(parameters), generator=generator)}

    def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
        probability = self.probability(parameters)
        return torch.where(data["detected"] == 1, probability.log(), torch.log1p(-probability))


class Weighed:
    """A Gaussian report of a sum and a difference, as the closed form knows it too."""

    parameters: Any = {"x": "real", "y": "real"}  # noqa: RUF012
    data: Any = {"sum": "real", "difference": "real"}  # noqa: RUF012
    context: Any = ("deviation",)

    def means(self, parameters: Any) -> Any:
        return {"sum": parameters["x"] + parameters["y"], "difference": parameters["x"] - parameters["y"]}

    def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
        return {
            name: mean + context["deviation"] * torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
            for name, mean in self.means(parameters).items()
        }

    def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
        means = self.means(parameters)
        laws: dict[str, Any] = {
            name: torch.distributions.Normal(mean, context["deviation"]) for name, mean in means.items()
        }
        return sum(law.log_prob(data[name]) for name, law in laws.items())


@pytest.fixture(scope="module")
def updater() -> Updater:
    return Updater(weights.load())


def gaussian(mean: Sequence[float], spread: Sequence[float]) -> GaussianMixture:
    covariance = torch.tensor(spread, dtype=torch.float64).square().diag()
    return GaussianMixture.gaussian(torch.tensor([mean], dtype=torch.float64), covariance[None])


def counter(exposure: float = 1.0) -> Sensor:
    return of_problem(Counts(), PLANE, 2, ["count", "x0", "y0"], {"exposure": exposure})


def plane(half: float = 12.0, count: int = 601) -> tuple[Array, float]:
    """A grid over the plane ``(P, 2)``, and the area of a cell."""
    axis = np.linspace(-half, half, count)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    return points, float((axis[1] - axis[0]) ** 2)


def rate(points: Array, place: Sequence[float], exposure: float = 1.0) -> Array:
    squared = np.square(points - np.array(place)).sum(1)
    found: Array = exposure * (1 + 20 / (squared + 0.5))
    return found


def check(
    update: Answer, points: Array, cell: float, log_target: Array, most: float, evidence: float
) -> None:
    """Compare an update with a grid: its divergence, and its log evidence."""
    peak = log_target.max()
    log_evidence = peak + math.log(np.exp(log_target - peak).sum() * cell)
    log_exact = log_target - log_evidence
    found = update.posterior.log_density(torch.from_numpy(points)[None])[0].numpy()
    share = np.exp(log_exact) * cell
    seen = share > 0
    divergence = float((share[seen] * (log_exact[seen] - found[seen])).sum())
    assert -0.001 < divergence < most
    assert divergence < float(update.lost) + 0.05  # the answer says so itself
    assert float(update.log_evidence) == pytest.approx(log_evidence, abs=evidence)


def log_normal(points: Array, spread: float) -> Array:
    found: Array = scipy.stats.norm(0, spread).logpdf(points).sum(-1)
    return found


@pytest.mark.parametrize(("count", "place"), [(3, (6.0, 2.0)), (25, (1.0, 1.0)), (0, (0.0, 0.0))])
def test_a_poisson_count_has_the_grids_posterior(
    updater: Updater, count: int, place: tuple[float, float]
) -> None:
    observations = encode([[Reading(counter(), np.array([count, *place]))]], 2)
    points, cell = plane()
    exact = log_normal(points, 2.0) + scipy.stats.poisson(rate(points, place)).logpmf(count)
    check(updater.update(gaussian([0, 0], [2, 2]), observations), points, cell, exact, 0.1, 0.05)


def test_a_weak_count_is_settled_by_quadrature(updater: Updater) -> None:
    observations = encode([[Reading(counter(0.1), np.array([2, 6.0, 2.0]))]], 2)
    points, cell = plane()
    exact = log_normal(points, 1.0) + scipy.stats.poisson(rate(points, (6.0, 2.0), 0.1)).logpmf(2)
    found = updater.update(gaussian([0, 0], [1, 1]), observations)
    assert int(found.method) == Method.QUADRATURE
    check(found, points, cell, exact, 0.005, 0.002)


def test_counts_a_range_and_a_position_of_one_instant_are_multiplied(updater: Updater) -> None:
    readings = [
        Reading(counter(), np.array([14, 2.0, 0.0])),
        Reading(counter(2.0), np.array([9, -3.0, 1.0])),
        Reading(range_to([0, 1], 2, [4.0, 3.0], 0.4), np.array([4.5])),
        Reading(linear(np.array([[1.0, 0.0]]), np.eye(1), 0.0), np.array([0.6])),
    ]
    points, cell = plane()
    exact = log_normal(points, 2.0)
    exact += scipy.stats.poisson(rate(points, (2.0, 0.0))).logpmf(14)
    exact += scipy.stats.poisson(rate(points, (-3.0, 1.0), 2.0)).logpmf(9)
    exact += scipy.stats.norm(np.linalg.norm(points - [4.0, 3.0], axis=1), 0.4).logpdf(4.5)
    exact += scipy.stats.norm(points[:, 0], 1.0).logpdf(0.6)
    check(updater.update(gaussian([0, 0], [2, 2]), encode([readings], 2)), points, cell, exact, 0.05, 0.03)


@pytest.mark.parametrize("detected", [0, 1])
def test_where_the_likelihood_is_zero_nearly_no_mass_is_left(updater: Updater, detected: int) -> None:
    sensor = of_problem(Detector(), {"x": 0}, 1)
    found = updater.update(gaussian([0.5], [1.5]), encode([[Reading(sensor, np.array([detected]))]], 1))
    points = np.linspace(-9, 9, 60_001)[:, None]
    chance = np.where(points[:, 0] > 0, 0.9 * np.exp(-points[:, 0].clip(0) / 3), 0.0)
    with np.errstate(divide="ignore"):
        likelihood = np.log(chance if detected else 1 - chance)
    exact = scipy.stats.norm(0.5, 1.5).logpdf(points[:, 0]) + likelihood
    # no sum of Gaussians has an edge
    check(found, points, 18 / 60_000, exact, 0.2 if detected else 0.1, 0.05)


def test_detectors_with_misses_and_false_alarms_have_the_grids_posterior(updater: Updater) -> None:
    places, seen = np.array([[-3.0, 0], [0, 2], [3, -1], [2, 4]]), [0, 1, 0, 1]
    context = {"reach": 2.0, "hit": 0.9, "false_alarm": 0.05}
    sensor = of_problem(ProximityDetector(), PLANE, 2, ["detected", "detector_x", "detector_y"], context)
    readings = [
        Reading(sensor, np.array([detected, *place])) for detected, place in zip(seen, places, strict=True)
    ]
    points, cell = plane(14.0, 401)
    exact = log_normal(points, 3.0)
    for detected, place in zip(seen, places, strict=True):
        near = np.exp(-np.square(points - place).sum(1) / 8)
        exact += scipy.stats.bernoulli(0.05 + 0.85 * near).logpmf(detected)
    check(updater.update(gaussian([0, 0], [3, 3]), encode([readings], 2)), points, cell, exact, 0.05, 0.05)


def test_an_observation_that_no_state_can_explain_leaves_an_answer_without_quality(updater: Updater) -> None:
    class Never(Detector):
        def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
            return torch.where(data["detected"] == 1, -math.inf, 0.0) + 0 * parameters["x"]

    sensor = of_problem(Never(), {"x": 0}, 1)
    found = updater.update(gaussian([0.5], [1.5]), encode([[Reading(sensor, np.array([1.0]))]], 1))
    assert float(found.sample_efficiency) == 0.0 and float(found.lost) > 1
    assert found.posterior.means.isfinite().all() and found.posterior.covariances.isfinite().all()


def test_a_gaussian_likelihood_has_the_closed_forms_posterior(updater: Updater) -> None:
    prior, value, rows = gaussian([1, -1], [2, 1]), np.array([0.5, 1.5]), np.array([[1.0, 1.0], [1.0, -1.0]])
    own = of_problem(Weighed(), PLANE, 2, context={"deviation": 0.7})
    usual = linear(rows, 0.49 * np.eye(2), 0.0)
    found, exact = (updater.update(prior, encode([[Reading(sensor, value)]], 2)) for sensor in (own, usual))
    assert int(exact.method) == Method.KALMAN
    mean, covariance = found.posterior.moments()
    exact_mean, exact_covariance = exact.posterior.moments()
    torch.testing.assert_close(mean, exact_mean, atol=0.01, rtol=0)
    torch.testing.assert_close(covariance, exact_covariance, atol=0.01, rtol=0.05)
    assert float(found.log_evidence) == pytest.approx(float(exact.log_evidence), abs=0.01)
    assert float(found.p_value) == pytest.approx(float(exact.p_value), abs=0.1)


def test_an_answer_does_not_depend_on_the_rest_of_its_batch(updater: Updater) -> None:
    rows = [
        [Reading(counter(), np.array([3, 6.0, 2.0]))],
        [Reading(range_to([0, 1], 2, [4.0, 3.0], 0.4), np.array([4.5]))],
        [Reading(counter(), np.array([7, 2.0, 2.0])), Reading(counter(), np.array([4, -2.0, 2.0]))],
    ]
    prior = gaussian([0, 0], [2, 2])
    together = updater.update(prior.rows(torch.zeros(3, dtype=torch.int64)), encode(rows, 2))
    for place in (0, 2):
        alone = updater.update(prior, encode([rows[place]], 2))
        mean, covariance = together.rows(torch.tensor([place])).posterior.moments()
        torch.testing.assert_close((mean, covariance), alone.posterior.moments(), atol=1e-6, rtol=1e-6)
        assert float(together.p_value[place]) == float(alone.p_value)


def p_values(
    updater: Updater, draw: Callable[[np.random.Generator], tuple[float, float]], cases: int
) -> Array:
    """P-value of counts of a beacon that `draw` places."""
    generator, rows = np.random.default_rng(5), []
    for _ in range(cases):
        place = np.array([draw(generator)])
        rows.append(
            [Reading(counter(0.02), np.array([generator.poisson(rate(place, (3, 0), 0.02))[0], 3, 0]))]
        )
    prior = gaussian([0, 0], [1, 1]).rows(torch.zeros(cases, dtype=torch.int64))
    return updater.update(prior, encode(rows, 2)).p_value.numpy()


def test_counts_as_predicted_are_likely_and_others_are(updater: Updater) -> None:
    usual = p_values(updater, lambda g: (float(g.normal()), float(g.normal())), 40)
    assert (usual < 0.05).mean() < 0.15  # a p-value is at least as large as a uniform number
    far = updater.update(gaussian([0, 0], [1, 1]), encode([[Reading(counter(0.02), np.array([9, 3, 0]))]], 2))
    assert float(far.p_value) < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"axes": {"x": 0}}, r"parameters: .*:Counts has \['x', 'y'\], got \['x'\]"),
        ({"value": ["count", "z0"]}, "value: .* knows .*, got z0"),
        ({"value": ["x0", "y0"]}, "value: must report count"),
        ({"value": ["count", "exposure"]}, "value: exposure of .* given more than once"),
        ({"value": ["count"]}, "context: .* needs x0, y0"),
        ({"context": {"exposure": math.nan}}, "context: exposure must be finite, got nan"),
    ],
)
def test_a_sensor_with_wrong_names_is_refused(arguments: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"axes": PLANE, "value": ["count", "x0", "y0"], "context": {"exposure": 1.0}}
    with pytest.raises(ValueError, match=message):
        of_problem(Counts(), dimension=2, **{**usual, **arguments})


def test_a_datum_outside_its_domain_is_refused() -> None:
    with pytest.raises(ValueError, match=r"count: must be a whole number from 0 on, got 2.5"):
        encode([[Reading(counter(), np.array([2.5, 0, 0]))]], 2)
