from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from beliefstream.schemas import Mixture
from beliefstream.schemas.beliefs.mixture import chi_square_cdf, chi_square_quantile

GAUSSIAN = Mixture.gaussian((1.0, -2.0), covariance=[[4.0, 1.0], [1.0, 2.0]])
TWO = Mixture(weights=(0.3, 0.7), means=((-50.0,), (50.0,)), covariances=(((1.0,),), ((4.0,),)))
CLOSE = Mixture(
    weights=(0.5, 0.3, 0.2),
    means=((0.0, 0.0), (1.0, 0.5), (-2.0, 3.0)),
    covariances=(((1.0, 0.3), (0.3, 2.0)), ((2.0, -0.5), (-0.5, 1.0)), ((0.5, 0.0), (0.0, 0.5))),
)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_density_is_the_sum_over_the_components(size: int) -> None:
    random = np.random.default_rng(size)
    factors = random.normal(size=(3, size, size)) + 2 * np.eye(size)
    mixture = Mixture(
        weights=(0.2, 0.3, 0.5),
        means=random.normal(0, 3, (3, size)),
        covariances=np.einsum("kij,klj->kil", factors, factors),
    )
    points = random.normal(0, 5, (20, size))
    terms = [
        stats.multivariate_normal(mean, covariance).pdf(points) * weight
        for weight, mean, covariance in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    ]
    np.testing.assert_allclose(np.exp(mixture.log_density(points)), np.sum(terms, axis=0), rtol=1e-9)


def test_a_point_too_far_to_tell_has_no_density() -> None:
    assert CLOSE.log_density([1e200, 0.0]) == -math.inf
    np.testing.assert_array_equal(CLOSE.cdf([1e200, -1e200]), [1.0, 0.0])


def test_the_mode_of_one_gaussian_is_its_mean() -> None:
    np.testing.assert_allclose(GAUSSIAN.mode(), (1, -2), atol=1e-12)


def test_the_mode_of_separate_components_is_that_with_the_highest_peak() -> None:
    np.testing.assert_allclose(TWO.mode(), (50,), atol=1e-9)  # .7 / 2 is more than .3
    narrow = TWO.model_copy(update={"covariances": (((1.0,),), ((9.0,),))})
    np.testing.assert_allclose(narrow.mode(), (-50,), atol=1e-9)


def test_no_point_around_the_mode_is_more_probable_and_the_slope_there_is_zero() -> None:
    mode = CLOSE.mode()
    height = CLOSE.log_density(mode)
    grid = np.stack(np.meshgrid(np.linspace(-5, 5, 201), np.linspace(-5, 5, 201)), axis=-1)
    assert CLOSE.log_density(grid).max() <= height
    step = 1e-5
    for axis in np.eye(2):
        slope = (CLOSE.log_density(mode + step * axis) - CLOSE.log_density(mode - step * axis)) / (2 * step)
        assert abs(slope) < 1e-8


def test_two_components_that_have_merged_have_their_mode_between_them() -> None:
    both = Mixture(weights=(0.5, 0.5), means=((-1.0,), (1.0,)), covariances=(((1.0,),), ((1.0,),)))
    np.testing.assert_allclose(
        both.mode(), (0,), atol=1e-3
    )  # at this distance it is flat to the fourth order


def test_the_distribution_function_is_that_of_each_coordinate() -> None:
    points = np.array([[0.0, 0.0], [1.0, -2.0], [5.0, 1.0]])
    expected = [
        stats.norm(mean, math.sqrt(variance)).cdf(points[:, axis])
        for axis, (mean, variance) in enumerate(((1, 4), (-2, 2)))
    ]
    np.testing.assert_allclose(GAUSSIAN.cdf(points), np.stack(expected, axis=1), atol=1e-12)
    np.testing.assert_allclose(TWO.cdf([0.0]), [0.3], atol=1e-12)


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9, 0.999])
def test_an_interval_leaves_as_much_below_as_above(probability: float) -> None:
    for mixture in (GAUSSIAN, TWO, CLOSE):
        low, high = mixture.interval(probability).T
        np.testing.assert_allclose(mixture.cdf(low), (1 - probability) / 2, atol=1e-12)
        np.testing.assert_allclose(mixture.cdf(high), (1 + probability) / 2, atol=1e-12)


def test_an_interval_of_a_gaussian_is_the_textbooks() -> None:
    np.testing.assert_allclose(
        Mixture.gaussian((3.0,), 2.0).interval(0.95), [[3 - 3.919928, 3 + 3.919928]], atol=1e-6
    )


def test_samples_have_the_moments_of_the_mixture_and_are_repeated_by_the_seed() -> None:
    drawn = CLOSE.sample(200_000, seed=5)
    error = CLOSE.standard_deviations() / math.sqrt(len(drawn))
    assert np.all(np.abs(drawn.mean(axis=0) - CLOSE.mean()) < 5 * error)
    np.testing.assert_allclose(np.cov(drawn.T), CLOSE.covariance(), atol=0.05)
    np.testing.assert_array_equal(drawn[:10], CLOSE.sample(200_000, np.random.default_rng(5))[:10])
    assert CLOSE.sample(0).shape == (0, 2)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 16])
def test_chi_square_is_scipys(size: int) -> None:
    for value in (0.0, 0.01, 1.0, 5.0, 30.0):
        assert chi_square_cdf(value, size) == pytest.approx(stats.chi2(size).cdf(value), abs=1e-12)
    for probability in (0.01, 0.5, 0.9, 0.999):
        assert chi_square_quantile(probability, size) == pytest.approx(
            stats.chi2(size).ppf(probability), rel=1e-9
        )


def test_the_region_of_a_gaussian_is_its_ellipse() -> None:
    region = GAUSSIAN.region(0.9)
    factor = np.linalg.cholesky(np.asarray(GAUSSIAN.covariances[0]))
    angles = np.linspace(0, 2 * math.pi, 50)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1) * math.sqrt(-2 * math.log(0.1))
    assert region.contains(GAUSSIAN.mean() + 0.999999 * circle @ factor.T).all()
    assert not region.contains(GAUSSIAN.mean() + 1.000001 * circle @ factor.T).any()


@pytest.mark.parametrize("probability", [0.5, 0.9, 0.99])
def test_a_region_of_a_mixture_has_its_probability(probability: float) -> None:
    for mixture in (TWO, CLOSE):
        region = mixture.region(probability)
        assert region.contains(mixture.mode())
        assert region.contains(mixture.sample(400_000, seed=9)).mean() == pytest.approx(
            probability, abs=0.003
        )
    assert not TWO.region(0.9).contains(TWO.mean())  # between the two nobody is


@pytest.mark.parametrize("probability", [0.0, 1.0, -1.0, math.nan])
def test_a_probability_that_is_none_is_told(probability: float) -> None:
    for summary in (GAUSSIAN.region, GAUSSIAN.interval):
        with pytest.raises(ValueError, match=r"probability: expected a number between 0 and 1, got"):
            summary(probability)


def test_points_of_another_size_are_told() -> None:
    for summary in (GAUSSIAN.cdf, GAUSSIAN.log_density):
        with pytest.raises(
            ValueError, match=r"points: expected 2 coordinates each, got an array of shape \(3,\)"
        ):
            summary([1.0, 2.0, 3.0])
