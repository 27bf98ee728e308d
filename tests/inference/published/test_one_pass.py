"""Answers of the published form: checked ones are the exact posterior, unchecked ones say so, bad input is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.stats
import torch

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.published import weights
from beliefstream.inference.published.check import LEAST, tempered
from beliefstream.inference.published.network import form_from
from beliefstream.inference.published.one_pass import Answer, OnePass
from beliefstream.inference.update.check.importance import Weighted
from tests.inference.published.problems import Level, Pair, Simulated, Variance, name, trained

Array = np.ndarray[Any, Any]


class Mixture(NamedTuple):
    weights: Any
    means: Any
    covariances: Any


PRIOR = Mixture([0.3, 0.7], [[-2.0], [1.0]], [[[0.5]], [[2.0]]])
READINGS, NOISE = [0.4, 1.3], 0.8


@pytest.fixture(scope="module")
def level() -> OnePass:
    return OnePass(trained(Level).form, ProblemFunction.of(Level()))


@pytest.fixture(scope="module")
def variance() -> OnePass:
    return OnePass(trained(Variance).form, ProblemFunction.of(Variance()))


def log_density(answer: Any, points: Array) -> Array:
    """Of a mixture over one coordinate."""
    laws = scipy.stats.norm(np.asarray(answer.means)[:, 0], np.sqrt(np.asarray(answer.covariances)[:, 0, 0]))
    return np.asarray(np.log((np.asarray(answer.weights) * laws.pdf(points[:, None])).sum(1)))


def divergence(exact: Array, answer: Answer, points: Array) -> float:
    """KL(exact ‖ answer), of log densities on evenly spaced points."""
    shares = np.exp(exact) * (points[1] - points[0])
    assert shares.sum() == pytest.approx(1, abs=1e-3)
    return float((shares * (exact - log_density(answer, points))).sum())


def exact_level(prior: Any, readings: list[float], noise: float, points: Array) -> Array:
    """The posterior of each component in closed form, weighted by the evidence of each."""
    logs, means, deviations = [], [], []
    for weight, (mean,), ((variance,),) in zip(*prior, strict=True):
        seen = scipy.stats.multivariate_normal(
            np.full(len(readings), mean), variance + noise**2 * np.eye(len(readings))
        )
        logs.append(np.log(weight) + seen.logpdf(readings))
        precision = 1 / variance + len(readings) / noise**2
        means.append((mean / variance + sum(readings) / noise**2) / precision)
        deviations.append(precision**-0.5)
    shares = np.exp(np.array(logs) - scipy.special.logsumexp(logs))
    return np.asarray(np.log((shares * scipy.stats.norm(means, deviations).pdf(points[:, None])).sum(1)))


def test_the_posterior_of_a_mixture_is_the_one_in_closed_form(level: OnePass) -> None:
    points = np.linspace(-6, 7, 4000)
    exact = exact_level(PRIOR, READINGS, NOISE, points)
    prior_away = divergence(exact, PRIOR, points)  # type: ignore[arg-type]
    given = PRIOR, {"reading": READINGS}, {"noise": NOISE}
    alone = level.posterior(*given, components=4, check=False)
    assert (alone.likelihood, alone.sample_efficiency, alone.divergence, alone.refined) == (
        "unchecked",
        None,
        None,
        False,
    )
    assert divergence(exact, alone, points) < 0.7 * prior_away  # after 150 steps
    best = level.posterior(*given, components=4)
    assert best.likelihood == "exact" and best.refined
    found = divergence(exact, best, points)
    assert 0 <= found < 0.005
    assert best.divergence is not None and best.divergence_error is not None
    assert abs(found - best.divergence) < 4 * best.divergence_error + 0.001
    assert best.sample_efficiency is not None and best.sample_efficiency > 0.95


@pytest.mark.parametrize("components", [1, 2, 7, 16])
def test_one_network_answers_with_any_number_of_components(level: OnePass, components: int) -> None:
    answer = level.posterior(PRIOR, {"reading": READINGS}, {"noise": NOISE}, components)
    assert len(answer.weights) == components and answer.weights.sum() == pytest.approx(1)
    points = np.linspace(-6, 7, 4000)
    assert divergence(exact_level(PRIOR, READINGS, NOISE, points), answer, points) < 0.06


def test_a_posterior_is_the_next_prior(level: OnePass) -> None:
    answer: Any = PRIOR
    for reading in READINGS:
        answer = level.posterior(answer, {"reading": [reading]}, {"noise": NOISE})
    points = np.linspace(-6, 7, 4000)
    assert divergence(exact_level(PRIOR, READINGS, NOISE, points), answer, points) < 0.01


def test_the_posterior_of_an_inverse_gamma_is_one(variance: OnePass) -> None:
    shape, scale, number = 3.0, 2.0, 1.7
    points = np.linspace(-6, 8, 4000)
    law = scipy.stats.invgamma(shape + 0.5, scale=scale + number**2 / 2)
    exact = law.logpdf(np.exp(points)) + points
    alone = variance.posterior({"variance": (shape, scale)}, {"number": number}, check=False)
    best = variance.posterior({"variance": (shape, scale)}, {"number": number})
    assert alone.likelihood == "unchecked" and best.likelihood == "exact"
    assert 0 <= divergence(exact, best, points) < 0.004
    assert divergence(exact, alone, points) < 0.15


def test_two_parameters_of_which_a_sum_is_seen() -> None:
    one_pass = OnePass(trained(Pair, 60).form, ProblemFunction.of(Pair()))
    covariance = np.array([[1.0, 0.3], [0.3, 2.0]])
    answer = one_pass.posterior(Mixture([1.0], [[0.5, -1.0]], [covariance]), {"sum": 2.0}, components=4)
    seen = np.ones((1, 2))
    gain = covariance @ seen.T / (seen @ covariance @ seen.T + 1)
    mean = np.array([0.5, -1.0]) + gain[:, 0] * 2.5
    found = answer.weights @ answer.means
    offset = answer.means - found
    spread = np.einsum("k,kij->ij", answer.weights, answer.covariances)
    spread = spread + np.einsum("k,ki,kj->ij", answer.weights, offset, offset)
    assert answer.sample_efficiency is not None and answer.sample_efficiency > 0.9
    np.testing.assert_allclose(found, mean, atol=0.12)
    np.testing.assert_allclose(spread, covariance - gain @ seen @ covariance, atol=0.15)


def test_a_simulator_alone_cannot_check() -> None:
    one_pass = OnePass(trained(Simulated).form, ProblemFunction.of(Simulated()))
    answer = one_pass.posterior(PRIOR, {"reading": READINGS}, {"noise": NOISE})
    assert answer.likelihood == "unchecked" and answer.sample_efficiency is None


def test_a_likelihood_that_was_learned_checks_and_is_named() -> None:
    class Learned:
        digest, expected_error = "", 0.0
        low = high = torch.zeros(2)

        def __call__(self, coordinates: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
            away = (numbers[:, :4] - coordinates[:, :1]) / numbers[:, 4:]
            return -0.5 * away.square().nansum(1)

        def distance_of(self, numbers: torch.Tensor) -> float:
            return 0.0

    one_pass = OnePass(trained(Simulated).form, ProblemFunction.of(Simulated(), Learned()))
    answer = one_pass.posterior(PRIOR, {"reading": READINGS}, {"noise": NOISE})
    points = np.linspace(-6, 7, 4000)
    assert answer.likelihood == "learned"
    assert divergence(exact_level(PRIOR, READINGS, NOISE, points), answer, points) < 0.01


def test_what_lies_outside_the_training_is_measured(level: OnePass, variance: OnePass) -> None:
    def outside(prior: Any = PRIOR, reading: float = 1.0, noise: float = NOISE) -> float:
        return level.posterior(prior, {"reading": reading}, {"noise": noise}, check=False).outside_training

    assert outside() == 0
    assert outside(noise=5.5) == pytest.approx(2.5 / 2.5)
    assert outside(reading=60.0) > 1
    assert outside(Mixture([1.0], [[13.0]], [[[1.0]]])) == pytest.approx((13 + 2 - 10) / 20, rel=1e-6)
    assert outside(Mixture([1.0], [[0.0]], [[[1e-4]]])) > 0  # narrower than any in training
    far = variance.posterior({"variance": (200.0, 20.0)}, {"number": 1.0}, check=False)
    assert far.outside_training == pytest.approx(np.log(10) / np.log(40))


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ({"data": {"reading": [1.0] * 5}}, "data: expected 1 to 4 rows"),
        ({"data": {"reading": []}}, "data: expected 1 to 4 rows"),
        ({"data": {"reading": ["much"]}}, r"data: reading needs numbers, got \['much'\]"),
        ({"data": {"reading": float("nan")}}, "data: reading needs numbers, got nan"),
        ({"data": {"level": 1.0}}, r"data: expected \['reading'\], got \['level'\]"),
        ({"context": {}}, r"context: expected \['noise'\], got \[\]"),
        ({"components": 0}, "components: expected 1 to 64, got 0"),
        ({"prior": {"level": (1.0, 2.0)}}, "prior: this problem takes a mixture"),
        ({"prior": Mixture([0.5], [[0.0]], [[[1.0]]])}, "prior: expected weights that sum to 1"),
        ({"prior": Mixture([1.0], [[0.0]], [[[-1.0]]])}, "prior: a covariance is not positive definite"),
        ({"prior": Mixture([1.0], [[0.0, 1.0]], [np.eye(2)])}, "prior: expected 1 coordinates"),
    ],
)
def test_bad_input_is_told(level: OnePass, change: dict[str, Any], shown: str) -> None:
    given = {"prior": PRIOR, "data": {"reading": 1.0}, "context": {"noise": NOISE}, **change}
    with pytest.raises(ValueError, match=shown):
        level.posterior(**given)


@pytest.mark.parametrize(
    ("prior", "shown"),
    [
        (PRIOR, "expected the two numbers of each"),
        ({"variance": (1.0,)}, r"variance needs 2 numbers, got \(1.0,\)"),
        ({"variance": (1.0, -2.0)}, "expected positive numbers"),
    ],
)
def test_bad_parametric_priors_are_told(variance: OnePass, prior: Any, shown: str) -> None:
    with pytest.raises(ValueError, match=f"prior: {shown}"):
        variance.posterior(prior, {"number": 1.0})


def test_data_that_no_state_explains_are_told(level: OnePass) -> None:
    class Impossible(Level):
        def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
            return torch.full_like(parameters["level"], -torch.inf)

    one_pass = OnePass(level.form, ProblemFunction.of(Impossible()))
    with pytest.raises(ValueError, match="data: their likelihood is zero in every state"):
        one_pass.posterior(PRIOR, {"reading": 1.0}, {"noise": NOISE})


def test_weights_are_read_as_they_were_written_and_are_bound_to_their_problem(tmp_path: Path) -> None:
    form, path = trained(Variance).form, tmp_path / "it.safetensors"
    weights.save(form, path, {"seed": "0"})
    read = OnePass.load(path, Variance())
    for key, value in form.state_dict().items():
        assert torch.equal(read.form.state_dict()[key], value)
    with pytest.raises(ValueError, match="of another problem: its problem is"):
        OnePass.load(path, Level())
    changed = type("Variance", (Variance,), {"priors": {"variance": ("gamma", (0.5, 20), (0.2, 20))}})()
    with pytest.raises(ValueError, match=r"of other priors: .*inverse_gamma.*expected .*gamma"):
        OnePass.load(path, changed, name=name(Variance()))
    broken = {key: torch.full_like(value, torch.nan) for key, value in form.state_dict().items()}
    copy = form_from(form.describe())
    copy.load_state_dict(broken)
    weights.save(copy, path, {})
    with pytest.raises(ValueError, match=r"cannot be used: .* not finite"):
        OnePass.load(path, Variance())
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be used"):
        OnePass.load(path, Variance())
    with pytest.raises(ValueError, match=r"cannot be read: .*train-posterior"):
        OnePass.load(tmp_path / "none", Variance())


def test_data_that_few_states_explain_are_refined_as_far_as_points_reach(level: OnePass) -> None:
    """A likelihood that is zero but in a window of a twentieth of the prior."""

    class Window(Level):
        def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
            inside = (parameters["level"] - 4.0).abs() < 0.1
            return torch.where(inside, 0.0, -torch.inf).double()

    one_pass = OnePass(level.form, ProblemFunction.of(Window()))
    wide = Mixture([1.0], [[0.0]], [[[9.0]]])
    answer = one_pass.posterior(wide, {"reading": 1.0}, {"noise": NOISE}, components=4)
    assert answer.likelihood == "exact" and answer.refined
    mean = answer.weights @ answer.means[:, 0]
    assert np.isfinite(answer.covariances).all() and mean == pytest.approx(4.0, abs=0.1)


def test_samples_are_of_the_posterior_where_the_answer_is_not(level: OnePass) -> None:
    """A likelihood of two sharp windows, which one Gaussian cannot follow."""

    class Windows(Level):
        def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
            away = (parameters["level"].abs() - 2.0).abs()
            return torch.where(away < 0.5, 0.0, -torch.inf).double()

    one_pass = OnePass(level.form, ProblemFunction.of(Windows()))
    given = Mixture([1.0], [[0.0]], [[[9.0]]]), {"reading": 1.0}, {"noise": NOISE}
    answer = one_pass.posterior(*given, components=1)
    found = one_pass.samples(answer, *given, count=4000)
    assert found.likelihood == "exact" and found.points.shape == (4000, 1)
    assert found.effective is not None and found.effective > 3900
    points = found.points[:, 0]
    assert (np.abs(np.abs(points) - 2) < 0.5).all()
    law = scipy.stats.norm(0, 3)
    lower, upper = law.cdf([1.5, 2.5])

    below = (upper - law.cdf(np.abs(points))) / (upper - lower) / 2
    assert scipy.stats.kstest(np.where(points < 0, below, 1 - below), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(points[1:], points[:-1])[0, 1]) < 0.08  # in no order
    np.testing.assert_array_equal(found.points, one_pass.samples(answer, *given, count=4000).points)
    assert not np.array_equal(found.points, one_pass.samples(answer, *given, count=4000, seed=1).points)


def test_samples_without_a_likelihood_are_of_the_answer() -> None:
    one_pass = OnePass(trained(Simulated).form, ProblemFunction.of(Simulated()))
    given = PRIOR, {"reading": READINGS}, {"noise": NOISE}
    answer = one_pass.posterior(*given)
    found = one_pass.samples(answer, *given, count=3000)
    assert (found.likelihood, found.effective) == ("unchecked", None)
    laws = scipy.stats.norm(answer.means[:, 0], np.sqrt(answer.covariances[:, 0, 0]))
    levels = (answer.weights * laws.cdf(found.points)).sum(1)
    assert scipy.stats.kstest(levels, "uniform").pvalue > 1e-3


def test_samples_that_cannot_be_drawn_are_told(level: OnePass) -> None:
    class Impossible(Level):
        def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
            return torch.full_like(parameters["level"], -torch.inf)

    given = PRIOR, {"reading": 1.0}, {"noise": NOISE}
    with pytest.raises(ValueError, match="count: expected 1 to 100000, got 0"):
        level.samples(PRIOR, *given, count=0)
    with pytest.raises(ValueError, match="zero in every state"):
        OnePass(level.form, ProblemFunction.of(Impossible())).samples(PRIOR, *given, count=10)


def test_weights_are_raised_to_a_power_that_leaves_enough_points() -> None:
    logs = torch.tensor([[-3.0 * i * i for i in range(500)], [0.001 * (i % 5) for i in range(500)]]).double()
    logs[:, -3:] = -torch.inf
    zeros = torch.zeros_like(logs)
    found = tempered(Weighted(zeros[..., None], logs, zeros, zeros)).target
    effective = 1 / torch.softmax(found, 1).square().sum(1)
    assert effective[0] == pytest.approx(LEAST, rel=0.01)
    torch.testing.assert_close(found[1], logs[1])  # already enough
    assert bool((found[:, -3:] == -torch.inf).all())
    few = torch.where(torch.arange(500) < 20, logs, -torch.inf)  # fewer are possible than wanted
    found = tempered(Weighted(zeros[..., None], few, zeros, zeros)).target
    assert float(1 / torch.softmax(found, 1).square().sum(1)[0]) == pytest.approx(20, rel=0.01)


def test_an_answer_far_away_finds_a_narrow_posterior() -> None:
    """Four coordinates, each known to a two-hundredth of the prior: no point of the prior is near."""

    class Far:
        parameters: Any = dict.fromkeys("wxyz", "real")
        data: Any = {"seen": "real"}  # noqa: RUF012
        context: Any = ()
        ranges: Any = dict.fromkeys("wxyz", (-5, 5))

        def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
            return {"seen": parameters["x"]}

        def log_likelihood(self, data: Any, parameters: Any, context: Any) -> Any:
            places = torch.stack([parameters[name] for name in "wxyz"], -1)
            return -0.5 * ((places - torch.tensor([-1.0, 2.0, -3.0, 2.5])) / 0.01).square().sum(-1)

    one_pass = OnePass(trained(Far, 1).form, ProblemFunction.of(Far()))
    prior = Mixture([1.0], [[0.0] * 4], [4 * np.eye(4)])
    answer = one_pass.posterior(prior, {"seen": 2.0}, components=2)
    assert answer.sample_efficiency is not None and answer.sample_efficiency > 0.9
    np.testing.assert_allclose(answer.weights @ answer.means, [-1.0, 2.0, -3.0, 2.5], atol=0.005)
