"""Mixtures: every operation against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate
from tests.inference.plain_models import generator, random_covariances, random_mixture, random_normal

seeds, sizes, counts = st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5)
few = settings(max_examples=20, deadline=None)


def reference(mixture: GaussianMixture) -> MixtureSameFamily:
    normal = MultivariateNormal(mixture.means, mixture.covariances)
    return MixtureSameFamily(Categorical(logits=mixture.log_weights), normal)


def line(width: float, count: int = 2001) -> tuple[Tensor, float]:
    points = torch.linspace(-width, width, count, dtype=torch.float64)
    return points, float(points[1] - points[0])


@few
@given(seeds, counts, sizes)
def test_density_is_that_of_torch_distributions(seed: int, components: int, dimension: int) -> None:
    mixture = random_mixture(seed, 3, components, dimension)
    points = 2 * random_normal(seed + 9, 3, 7, dimension)
    expected: Tensor = reference(mixture).log_prob(points.transpose(0, 1)).T  # type: ignore[no-untyped-call]
    torch.testing.assert_close(mixture.log_density(points), expected)


@few
@given(seeds, counts, sizes)
def test_moments_are_those_of_torch_distributions(seed: int, components: int, dimension: int) -> None:
    mixture = random_mixture(seed, 3, components, dimension)
    mean, covariance = mixture.moments()
    torch.testing.assert_close(mean, reference(mixture).mean)
    torch.testing.assert_close(covariance.diagonal(dim1=-2, dim2=-1), reference(mixture).variance)
    assert bool((torch.linalg.eigvalsh(covariance) > 0).all())


def test_samples_have_the_moments_of_the_mixture() -> None:
    mixture, count = random_mixture(5, 2, 4, 3), 100_000
    points = mixture.sample(count, generator(1))
    mean, covariance = mixture.moments()
    error = (covariance.diagonal(dim1=-2, dim2=-1) / count).sqrt()
    assert bool(((points.mean(1) - mean).abs() < 5 * error).all())
    offset = points - points.mean(1, keepdim=True)
    torch.testing.assert_close(offset.mT @ offset / count, covariance, rtol=0.05, atol=0.05)


def test_samples_are_a_function_of_the_generator() -> None:
    mixture = random_mixture(5, 2, 4, 3)
    torch.testing.assert_close(mixture.sample(9, generator(1)), mixture.sample(9, generator(1)))


@few
@given(seeds, st.integers(2, 5), sizes)
def test_the_order_of_components_does_not_matter(seed: int, components: int, dimension: int) -> None:
    mixture = random_mixture(seed, 2, components, dimension)
    order = torch.randperm(components, generator=generator(seed))
    other = GaussianMixture(
        mixture.log_weights[:, order], mixture.means[:, order], mixture.covariances[:, order]
    )
    points = random_normal(seed + 9, 2, 5, dimension)
    torch.testing.assert_close(other.log_density(points), mixture.log_density(points))
    torch.testing.assert_close(other.moments()[1], mixture.moments()[1])


@few
@given(seeds, counts, sizes)
def test_normalised_weights_sum_to_one(seed: int, components: int, dimension: int) -> None:
    mixture = random_mixture(seed, 3, components, dimension)
    shifted = GaussianMixture(mixture.log_weights + 3.7, mixture.means, mixture.covariances)
    torch.testing.assert_close(shifted.normalised().log_weights, mixture.log_weights)


@few
@given(seeds, counts)
def test_marginal_is_the_integral_over_the_other_coordinate(seed: int, components: int) -> None:
    mixture = random_mixture(seed, 1, components, 2)
    other, step = line(25.0)
    seen = random_normal(seed + 9, 5)
    points = torch.stack([other.expand(5, -1), seen[:, None].expand(-1, len(other))], -1)  # (5, 2001, 2)
    integral = mixture.log_density(points.reshape(1, -1, 2)).view(5, -1).exp().sum(-1) * step
    marginal = mixture.marginal([1]).log_density(seen[None, :, None])[0].exp()
    torch.testing.assert_close(marginal, integral)


def test_marginal_keeps_the_order_of_axes() -> None:
    mixture = random_mixture(3, 2, 3, 3)
    points = random_normal(4, 2, 5, 3)
    turned = mixture.marginal([2, 0, 1]).log_density(points[..., [2, 0, 1]])
    torch.testing.assert_close(turned, mixture.log_density(points))


@few
@given(seeds, counts, counts)
def test_product_is_that_of_the_densities_on_a_grid(seed: int, components: int, others: int) -> None:
    first, second = random_mixture(seed, 1, components, 2), random_mixture(seed + 50, 1, others, 2)
    axis, step = line(12.0, 301)
    points = torch.cartesian_prod(axis, axis)[None]
    joint = first.log_density(points) + second.log_density(points)
    expected = joint - torch.logsumexp(joint, -1, keepdim=True) - 2 * math.log(step)
    near = joint > joint.max() - 12
    product = first.product(second)
    torch.testing.assert_close(product.log_density(points)[near], expected[near], rtol=1e-6, atol=1e-6)
    assert product.components == components * others


@few
@given(seeds, counts, counts)
def test_product_over_some_axes_is_that_of_the_densities(seed: int, components: int, others: int) -> None:
    first, second = random_mixture(seed, 2, components, 3), random_mixture(seed + 50, 2, others, 2)
    points = random_normal(seed + 9, 2, 6, 3)
    axes = [2, 0]
    joint = first.log_density(points) + second.log_density(points[..., axes])
    difference = first.product(second, axes).log_density(points) - joint
    # equal but for the normaliser, which is the same at every point
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference))


@few
@given(seeds, counts, sizes)
def test_an_affine_image_has_the_density_of_a_change_of_variables(
    seed: int, components: int, dimension: int
) -> None:
    mixture = random_mixture(seed, 2, components, dimension)
    matrix = random_covariances(seed + 20, 2, dimension=dimension)
    points = random_normal(seed + 9, 2, 5, dimension)
    volume = torch.linalg.slogdet(matrix)[1][:, None]
    image = mixture.affine(matrix).log_density(points @ matrix.mT)
    torch.testing.assert_close(image, mixture.log_density(points) - volume)


@few
@given(seeds, counts)
def test_noise_adds_to_the_covariance_of_an_affine_image(seed: int, components: int) -> None:
    mixture = random_mixture(seed, 2, components, 3)
    matrix, noise = random_normal(seed + 20, 2, 2, 3), random_covariances(seed + 30, 2, dimension=2)
    mean, covariance = mixture.moments()
    moved_mean, moved = mixture.affine(matrix, noise).moments()
    torch.testing.assert_close(moved_mean, (matrix @ mean[..., None])[..., 0])
    torch.testing.assert_close(moved, matrix @ covariance @ matrix.mT + noise)


@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1e4, 1e8])
def test_units_do_not_matter(scale: float) -> None:
    mixture, other = random_mixture(3, 2, 3, 3), random_mixture(8, 2, 2, 3)
    large = GaussianMixture(mixture.log_weights, mixture.means * scale, mixture.covariances * scale**2)
    large_other = GaussianMixture(other.log_weights, other.means * scale, other.covariances * scale**2)
    product, scaled = mixture.product(other), large.product(large_other)
    torch.testing.assert_close(scaled.log_weights, product.log_weights)
    torch.testing.assert_close(scaled.means / scale, product.means)
    torch.testing.assert_close(scaled.covariances / scale**2, product.covariances)


@few
@given(seeds, counts, sizes)
def test_padding_changes_nothing_but_the_shape(seed: int, components: int, dimension: int) -> None:
    mixture = random_mixture(seed, 2, components, dimension)
    padded = mixture.padded(components + 3)
    points = random_normal(seed + 9, 2, 5, dimension)
    assert padded.components == components + 3
    assert padded.present.sum(1).tolist() == [components] * 2
    torch.testing.assert_close(padded.log_density(points), mixture.log_density(points))
    torch.testing.assert_close(padded.moments()[1], mixture.moments()[1])
    assert bool((padded.sample(50, generator(0)).isfinite()).all())
    other = random_mixture(seed + 50, 2, 2, dimension)
    torch.testing.assert_close(
        padded.product(other).log_density(points), mixture.product(other).log_density(points)
    )


def test_concatenated_mixtures_are_the_same_row_by_row() -> None:
    mixtures = [random_mixture(1, 2, 3, 2), random_mixture(2, 1, 5, 2)]
    joined = concatenate(mixtures)
    points = random_normal(9, 3, 4, 2)
    assert (joined.batch, joined.components) == (3, 5)
    torch.testing.assert_close(joined.log_density(points)[:2], mixtures[0].log_density(points[:2]))
    torch.testing.assert_close(joined.log_density(points)[2:], mixtures[1].log_density(points[2:]))
    torch.testing.assert_close(joined.rows(slice(2, 3)).means, mixtures[1].means)


def test_a_gaussian_is_a_mixture_of_one() -> None:
    mean, covariance = random_normal(1, 4, 3), random_covariances(2, 4, dimension=3)
    moments = GaussianMixture.gaussian(mean, covariance).moments()
    torch.testing.assert_close(moments[0], mean)
    torch.testing.assert_close(moments[1], covariance)


@pytest.mark.parametrize("field", ["means", "covariances"])
def test_shapes_that_disagree_are_refused_by_name(field: str) -> None:
    mixture = random_mixture(1, 2, 3, 2)
    parts = {
        "log_weights": mixture.log_weights,
        "means": mixture.means,
        "covariances": mixture.covariances,
    }
    parts[field] = parts[field][:, :2]
    with pytest.raises(ValueError, match=field):
        GaussianMixture(**parts)
