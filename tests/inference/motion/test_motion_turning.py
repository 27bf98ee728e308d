from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import ConstantVelocity, Control, CoordinatedTurn, Linear, Motion, Unicycle
from beliefstream.inference.motion.moments import RESOLUTIONS, Path, nodes
from beliefstream.inference.motion.turning import MOST_PIECES

FULL = Unicycle(speed=3, turn_rate=4)  # everything in the state
NOISY = Unicycle(speed=3, turn_rate=4, heading_density=0.05, speed_density=0.1, turn_rate_density=0.02)
ODOMETRY = Unicycle(position_density=0.01, heading_density=0.02)


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(mean: object, covariance: object) -> GaussianMixture:
    return GaussianMixture.gaussian(tensor(mean)[None], tensor(covariance)[None])


def sharp(mean: list[float]) -> GaussianMixture:
    return normal(mean, np.zeros((len(mean), len(mean))).tolist())


def held(value: list[float], covariance: list[list[float]] | None = None) -> Control:
    size = len(value)
    spread = tensor(covariance) if covariance else torch.zeros(size, size, dtype=torch.float64)
    return Control(tensor([value]), spread[None])


def after(
    motion: Motion, start: GaussianMixture, interval: float, control: Control | None = None
) -> GaussianMixture:
    return motion.predict(start, tensor([interval]), control)


def distance(ours: tuple[Tensor, Tensor], truth: tuple[Tensor, Tensor]) -> float:
    """The largest difference in mean or covariance, in true standard deviations."""
    deviation = truth[1].diagonal().sqrt()
    mean = (ours[0] - truth[0]).abs() / deviation
    covariance = (ours[1] - truth[1]).abs() / deviation / deviation[:, None]
    return max(float(mean.max()), float(covariance.max()))


@settings(max_examples=60, deadline=None)
@given(
    heading=st.floats(-7, 7),
    speed=st.floats(-20, 20),
    rate=st.floats(-3, 3).filter(lambda rate: abs(rate) > 1e-3),
    interval=st.floats(0.01, 40),
)
def test_a_known_vehicle_drives_an_arc(heading: float, speed: float, rate: float, interval: float) -> None:
    end, radius = heading + rate * interval, speed / rate
    x, y = radius * (math.sin(end) - math.sin(heading)), radius * (math.cos(heading) - math.cos(end))
    tolerance = 3e-4 * abs(speed) * interval + 1e-9
    for moved in (
        after(FULL, sharp([5.0, -2.0, heading, speed, rate]), interval).means[0, 0],
        after(Unicycle(), sharp([5.0, -2.0, heading]), interval, held([speed, rate])).means[0, 0],
    ):
        np.testing.assert_allclose(moved[:3], [5 + x, y - 2, end], atol=tolerance)
    velocity = [speed * math.cos(heading), speed * math.sin(heading)]
    moved = after(CoordinatedTurn(), sharp([5.0, -2.0, *velocity, rate]), interval).means[0, 0]
    np.testing.assert_allclose(moved[:2], [5 + x, y - 2], atol=tolerance)
    np.testing.assert_allclose(moved[2:4], [speed * math.cos(end), speed * math.sin(end)], atol=1e-9)


def test_an_unknown_heading_makes_the_ring_it_must() -> None:
    # straight on: x = v T cos h, y = v T sin h with h ~ N(m, σ²); mean and covariance in closed form
    mean, sigma, length = 0.4, 1.3, 2.0 * 3.0
    moved = after(FULL, normal([0, 0, mean, 2.0, 0], np.diag([0, 0, sigma**2, 0, 0]).tolist()), 3.0)
    first, second = math.exp(-(sigma**2) / 2), math.exp(-2 * sigma**2)
    expected = [length * first * math.cos(mean), length * first * math.sin(mean)]
    np.testing.assert_allclose(moved.means[0, 0, :2], expected, rtol=1e-12)
    cosine = 0.5 * (1 + second * math.cos(2 * mean)) - (first * math.cos(mean)) ** 2
    sine = 0.5 * (1 - second * math.cos(2 * mean)) - (first * math.sin(mean)) ** 2
    both = 0.5 * second * math.sin(2 * mean) - first**2 * math.sin(mean) * math.cos(mean)
    expected_covariance = length**2 * np.array([[cosine, both], [both, sine]])
    np.testing.assert_allclose(moved.covariances[0, 0, :2, :2], expected_covariance, rtol=1e-10)
    # by Stein: Cov(cos h, h) = -σ² E[sin h]
    covariance = -(sigma**2) * length * first * math.sin(mean)
    assert float(moved.covariances[0, 0, 0, 2]) == pytest.approx(covariance, rel=1e-10)


def test_the_noise_of_odometry_is_held_with_it() -> None:
    # straight along x: the error of the speed goes along, that of the turn rate bends the path by ω T² / 2
    moved = after(Unicycle(), sharp([0, 0, 0]), 2.0, held([3.0, 0.0], [[0.25, 0.0], [0.0, 1e-8]]))
    covariance = moved.covariances[0, 0]
    assert float(covariance[0, 0]) == pytest.approx(0.25 * 2.0**2, rel=1e-6)
    assert float(covariance[1, 1]) == pytest.approx((3.0**2 + 0.25) * (2.0**2 / 2) ** 2 * 1e-8, rel=1e-6)
    assert float(covariance[2, 2]) == pytest.approx(2.0**2 * 1e-8, rel=1e-12)
    assert float(covariance[1, 2]) == pytest.approx(3.0 * 2.0**2 / 2 * 2.0 * 1e-8, rel=1e-6)


def test_without_a_control_a_vehicle_by_odometry_stands() -> None:
    start = normal([1.0, 2.0, 0.5], np.diag([0.1, 0.2, 0.3]).tolist())
    moved = after(ODOMETRY, start, 4.0)
    assert torch.equal(moved.means, start.means)
    np.testing.assert_allclose(moved.covariances[0, 0], np.diag([0.14, 0.24, 0.38]), rtol=1e-12)


COVARIANCE = [
    [0.25, 0.0, 0.1, 0.05, 0.0],
    [0.0, 0.16, 0.0, -0.05, 0.02],
    [0.1, 0.0, 0.2, 0.0, 0.03],
    [0.05, -0.05, 0.0, 0.3, 0.0],
    [0.0, 0.02, 0.03, 0.0, 0.04],
]


def test_a_turn_that_is_none_is_constant_velocity() -> None:
    linear = ConstantVelocity((0, 1), (2, 3), 0.7)
    start = normal([1, 2, 3, -1], np.array(COVARIANCE)[:4, :4].tolist())
    turning = CoordinatedTurn(turn_rate=None, acceleration_density=0.7)
    for interval in (0.1, 2.0, 50.0):
        ours, theirs = after(turning, start, interval, held([0.0])), after(linear, start, interval)
        np.testing.assert_allclose(ours.means, theirs.means, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(ours.covariances, theirs.covariances, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("interval", [0.3, 1.5, 3.0, 9.5, 25.0, 52.0, 110.0, 200.0])
def test_a_turn_of_known_rate_is_linear(interval: float) -> None:
    rate, noise = 0.9, 0.7
    drift = ((0, 0, 1, 0), (0, 0, 0, 1), (0, 0, 0, -rate), (0, 0, rate, 0))
    linear = Linear(drift, np.diag([0, 0, noise, noise]).tolist())
    start = normal([1, 2, 3, -1], np.array(COVARIANCE)[:4, :4].tolist())
    turning = CoordinatedTurn(turn_rate=None, acceleration_density=noise)
    ours, theirs = after(turning, start, interval, held([rate])), after(linear, start, interval)
    assert (
        distance((ours.means[0, 0], ours.covariances[0, 0]), (theirs.means[0, 0], theirs.covariances[0, 0]))
        < 5e-4
    )


def drive(
    states: Tensor, interval: float, steps: int, motion: Unicycle, generator: torch.Generator
) -> Tensor:
    """The unicycle's equations in small steps, by the midpoint rule: knows nothing of `inference.motion`."""
    x, y, heading, speed, rate = states.T.clone()
    step = interval / steps
    for _ in range(steps):
        bend, push, twist = (
            math.sqrt(density * step) * torch.randn(len(x), dtype=torch.float64, generator=generator)
            for density in (motion.heading_density, motion.speed_density, motion.turn_rate_density)
        )
        middle, mean_speed = heading + 0.5 * (rate * step + bend), speed + 0.5 * push
        x, y = x + mean_speed * middle.cos() * step, y + mean_speed * middle.sin() * step
        heading, speed, rate = heading + (rate + 0.5 * twist) * step + bend, speed + push, rate + twist
    return torch.stack([x, y, heading, speed, rate], 1)


@pytest.mark.parametrize("interval", [0.5, 4.0, 15.0])
def test_mean_and_covariance_are_those_of_the_path_with_its_noise(interval: float) -> None:
    generator, start = torch.Generator().manual_seed(3), normal([0, 0, 0.3, 2.0, 0.4], COVARIANCE)
    moved = after(NOISY, start, interval)
    count = 40_000
    states = drive(start.sample(count, generator)[0], interval, 150, NOISY, generator)
    error = distance((moved.means[0, 0], moved.covariances[0, 0]), (states.mean(0), torch.cov(states.T)))
    assert error < 6 / math.sqrt(count)


@pytest.mark.parametrize("place", range(len(RESOLUTIONS)))
@pytest.mark.parametrize("known", [1.0, 0.3])
def test_each_resolution_is_fine_enough_for_its_turns(place: int, known: float) -> None:
    resolution = RESOLUTIONS[place]
    rate, spread = known * resolution.turn, (1 - known) * resolution.turn / 3
    start = np.diag([0.1, 0.1, 0.3, 0.3, spread]) ** 2
    start[2, 4] = start[4, 2] = 0.5 * 0.3 * spread
    answers = []
    for some in (resolution, resolution._replace(nodes=2 * resolution.nodes + 4)):
        path = FULL._path(tensor([1.0]), some)
        mean, covariance = path.moments(
            tensor([[[0, 0, 0.3, 2.0, rate]]]), tensor(start)[None, None], tensor([])
        )
        answers.append((mean[0, 0, :2], covariance[0, 0, :2, :2]))
    assert distance(*answers) < 2e-4


@pytest.mark.parametrize("place", range(len(RESOLUTIONS) - 1))
@pytest.mark.parametrize("kind", ["heading", "turn_rate"])
def test_each_resolution_is_fine_enough_for_its_noise(place: int, kind: str) -> None:
    resolution, start = (
        RESOLUTIONS[place],
        normal([0, 0, 0.3, 2.0, 0.3], np.diag([0.01, 0.01, 0.1, 0.1, 0.01]).tolist()),
    )
    density = resolution.wander * (30.0 if kind == "turn_rate" else 1.0)
    noise_of_turn = {
        "heading": replace(FULL, heading_density=density),
        "turn_rate": replace(FULL, turn_rate_density=density),
    }
    motion = noise_of_turn[kind]
    answers = []
    for some in (resolution, resolution._replace(nodes=3 * resolution.nodes)):
        noise = torch.full((some.nodes,), density, dtype=torch.float64)
        mean, covariance = motion._path(tensor([1.0]), some).moments(start.means, start.covariances, noise)
        answers.append((mean[0, 0, :2], covariance[0, 0, :2, :2]))
    assert distance(*answers) < 0.015


def test_the_nodes_integrate_white_noise_exactly() -> None:
    at = nodes(3)
    # Var W(1) = 1, Var ∫W = 1/3, Cov(W(1), ∫W) = 1/2, Var ∫∫W = 1/20
    end, integral = at.brownian[-1], at.weights @ at.brownian
    np.testing.assert_allclose([end @ end, integral @ integral, end @ integral], [1, 1 / 3, 1 / 2])
    np.testing.assert_allclose(at.integrated[-1], integral, atol=1e-15)
    assert float((at.weights @ at.integrated).square().sum()) == pytest.approx(1 / 20)


MAKE: list[Callable[[float], Motion]] = [
    lambda noise: Unicycle(heading_density=noise, position_density=noise),
    lambda noise: Unicycle(turn_rate=3, turn_rate_density=noise),
    lambda noise: Unicycle(speed=3, speed_density=noise),
    lambda noise: Unicycle(speed=3, turn_rate=4, heading_density=noise, turn_rate_density=noise),
    lambda noise: CoordinatedTurn(acceleration_density=noise, turn_rate_density=noise),
    lambda noise: CoordinatedTurn(turn_rate=None, acceleration_density=noise),
]


@pytest.mark.parametrize("make", MAKE)
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    interval=st.floats(1e-6, 300),
    scale=st.floats(1e-4, 3),
    noise=st.sampled_from([0.0, 1e-6, 0.01, 1.0]),
)
def test_the_covariance_stays_positive_definite(
    make: Callable[[float], Motion], seed: int, interval: float, scale: float, noise: float
) -> None:
    motion, generator = make(noise), torch.Generator().manual_seed(seed)
    size = motion.dimension
    root = scale * torch.randn(1, 2, size, size, dtype=torch.float64, generator=generator)
    means = 3 * torch.randn(1, 2, size, dtype=torch.float64, generator=generator)
    covariances = root @ root.mT + 1e-3 * scale**2 * torch.eye(size, dtype=torch.float64)
    start = GaussianMixture.from_weights(tensor([[0.5, 0.5]]), means, covariances)
    control = held([1.0] * motion.inputs, (0.01 * np.eye(motion.inputs)).tolist()) if motion.inputs else None
    moved = after(motion, start, interval, control)
    deviation = moved.covariances.diagonal(dim1=-2, dim2=-1).sqrt()
    correlation = moved.covariances / deviation[..., None] / deviation[..., None, :]
    assert bool(torch.isfinite(moved.means).all())
    assert float(torch.linalg.eigvalsh(correlation).min()) > -1e-12
    assert bool((torch.linalg.cholesky_ex(moved.covariances).info == 0).all())


@settings(max_examples=30, deadline=None)
@given(first=st.floats(0.01, 30), second=st.floats(0.01, 30))
def test_two_intervals_are_as_one(first: float, second: float) -> None:
    # the path of a known start; and heading, speed and turn rate, which are linear, with their noise
    start = sharp([1.0, 2.0, 0.3, 2.0, 0.4])
    joined, at_once = after(FULL, after(FULL, start, first), second), after(FULL, start, first + second)
    np.testing.assert_allclose(joined.means, at_once.means, atol=3e-4 * 2 * (first + second))
    start = normal([0, 0, 0.3, 2.0, 0.4], COVARIANCE)
    joined, at_once = after(NOISY, after(NOISY, start, first), second), after(NOISY, start, first + second)
    np.testing.assert_allclose(joined.means[..., 2:], at_once.means[..., 2:], rtol=1e-9)
    np.testing.assert_allclose(joined.covariances[..., 2:, 2:], at_once.covariances[..., 2:, 2:], rtol=1e-8)


def test_an_entity_moves_as_if_it_were_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(6, 3, 5, dtype=torch.float64, generator=generator)
    weights = torch.full((6, 3), 1 / 3, dtype=torch.float64)
    batch = GaussianMixture.from_weights(weights, means, tensor(COVARIANCE).repeat(6, 3, 1, 1))
    intervals = tensor([0.0, 0.1, 3.0, 20.0, 100.0, 900.0])
    together = NOISY.predict(batch, intervals)
    for row in range(6):
        alone = NOISY.predict(batch.rows(slice(row, row + 1)), intervals[row : row + 1])
        np.testing.assert_allclose(together.means[row], alone.means[0], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(together.covariances[row], alone.covariances[0], rtol=1e-9, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(-4, 4), x=st.floats(-100, 100), y=st.floats(-100, 100))
def test_a_turned_and_shifted_start_gives_a_turned_and_shifted_end(angle: float, x: float, y: float) -> None:
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = torch.eye(5, dtype=torch.float64)
    turn[:2, :2] = tensor([[cosine, -sine], [sine, cosine]])
    shift = tensor([x, y, angle, 0, 0])

    def moved_frame(mixture: GaussianMixture) -> GaussianMixture:
        turned = mixture.affine(turn[None])
        return GaussianMixture(turned.log_weights, turned.means + shift, turned.covariances)

    start = normal([0, 0, 0.3, 2.0, 0.4], COVARIANCE)
    ours, theirs = after(NOISY, moved_frame(start), 3.0), moved_frame(after(NOISY, start, 3.0))
    np.testing.assert_allclose(ours.means, theirs.means, atol=1e-9)
    np.testing.assert_allclose(ours.covariances, theirs.covariances, atol=1e-9)


def test_a_path_beyond_the_finest_resolution_keeps_what_is_linear_exact() -> None:
    finest = RESOLUTIONS[-1]
    interval = 3 * finest.turn / 2.0
    moved = after(Unicycle(), sharp([0, 0, 0.1]), interval, held([1.0, 2.0], [[0.04, 0.0], [0.0, 1e-4]]))
    assert float(moved.means[0, 0, 2]) == pytest.approx(0.1 + 2.0 * interval)
    assert float(moved.covariances[0, 0, 2, 2]) == pytest.approx(1e-4 * interval**2)
    # it drove in circles of radius 1/2, however long
    assert float(moved.means[0, 0, :2].norm()) < 1.0
    forever = after(NOISY, normal([0, 0, 0.3, 2.0, 0.4], COVARIANCE), 1e5 * MOST_PIECES)
    assert bool((torch.linalg.cholesky_ex(forever.covariances).info == 0).all())


def test_coordinates_may_stand_in_any_order() -> None:
    order = [3, 0, 4, 2, 1]  # where x, y, heading, speed and turn rate stand
    shuffled = Unicycle((3, 0), 4, 2, 1, heading_density=0.05, speed_density=0.1, turn_rate_density=0.02)
    start = normal([0, 0, 0.3, 2.0, 0.4], COVARIANCE)
    place = np.argsort(order).tolist()
    ours, theirs = after(shuffled, start.marginal(place), 2.0), after(NOISY, start, 2.0).marginal(place)
    np.testing.assert_allclose(ours.means, theirs.means, rtol=1e-12)
    np.testing.assert_allclose(ours.covariances, theirs.covariances, rtol=1e-9, atol=1e-12)


def test_a_path_is_evaluated_as_its_moments_say() -> None:
    path: Path = FULL._path(tensor([2.0]), RESOLUTIONS[1])
    point = tensor([[[1.0, 2.0, 0.3, 2.0, 0.4]]])
    mean, covariance = path.moments(point, torch.zeros(1, 1, 5, 5, dtype=torch.float64), tensor([]))
    np.testing.assert_allclose(path.evaluate(point), mean, rtol=1e-12)
    assert float(covariance.abs().max()) < 1e-12


def test_what_is_no_vehicle_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"x, y, heading, speed, turn_rate: expected every coordinate once"):
        Unicycle(speed=2)
    with pytest.raises(ValueError, match=r"heading_density: .* got -1\.0"):
        Unicycle(heading_density=-1.0)
    with pytest.raises(ValueError, match=r"speed_density: expected 0, because speed is an input .* got 0\.1"):
        Unicycle(speed_density=0.1)
    with pytest.raises(
        ValueError, match=r"turn_rate_density: expected 0, because turn_rate is an input .* got 0\.1"
    ):
        CoordinatedTurn(turn_rate=None, turn_rate_density=0.1)
    with pytest.raises(ValueError, match="x, y, vx, vy, turn_rate"):
        CoordinatedTurn((0, 1), (1, 2))
