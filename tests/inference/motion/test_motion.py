from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.linalg import expm

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import (
    ConstantAcceleration,
    ConstantVelocity,
    Control,
    CoordinatedTurn,
    DecayingVelocity,
    FixedStep,
    Linear,
    LinearMotion,
    MeanReverting,
    Motion,
    RandomWalk,
    Unicycle,
)
from tests.schemas.kinds import MOVED

# an integrated Ornstein-Uhlenbeck process: F = [[1, .6321], [0, .3679]] over one second
FRICTION = ((0.0, 1.0), (0.0, -1.0))
CONTINUOUS: list[LinearMotion] = [
    RandomWalk((0.5, 2.0)),
    ConstantVelocity((0, 1), (2, 3), 0.7),
    ConstantVelocity((1,), (0,), 3.0, controlled=True, position_density=0.2),
    ConstantAcceleration((0, 3), (1, 4), (2, 5), 0.4, position_density=0.2),
    MeanReverting((0.5, 0.0), (3.0, -1.0), (0.2, 0.3)),
    DecayingVelocity((0, 3), (2, 1), 2.0, 0.7, position_density=0.2),
    Linear(FRICTION, ((0.0, 0.0), (0.0, 0.5)), ((0.0,), (1.0,))),
    *(each for each in MOVED.values() if isinstance(each, LinearMotion) and not isinstance(each, FixedStep)),
]
STEPPED = FixedStep(((1.0, 0.6321), (0.0, 0.3679)), ((0.01, 0.02), (0.02, 0.04)), 0.5, ((0.3,), (0.6,)))


def seconds(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def gaussian(motion: Motion, seed: int = 0) -> GaussianMixture:
    """Two entities of two components each."""
    generator, size = torch.Generator().manual_seed(seed), motion.dimension
    means = torch.randn(2, 2, size, dtype=torch.float64, generator=generator)
    root = 0.5 * torch.randn(2, 2, size, size, dtype=torch.float64, generator=generator)
    weights = torch.tensor([[0.3, 0.7], [1.0, 0.0]], dtype=torch.float64)
    covariances = root @ root.mT + 0.05 * torch.eye(size, dtype=torch.float64)
    return GaussianMixture.from_weights(weights, means, covariances)


def control(motion: Motion, deviation: float) -> Control | None:
    if not motion.inputs:
        return None
    value = torch.full((2, motion.inputs), 0.8, dtype=torch.float64)
    return Control(value, torch.eye(motion.inputs, dtype=torch.float64).repeat(2, 1, 1) * deviation**2)


def van_loan(drift: np.ndarray, diffusion: np.ndarray, interval: float) -> tuple[np.ndarray, np.ndarray]:
    """Van Loan, "Computing integrals involving the matrix exponential", IEEE Trans. Automatic Control 23(3), 1978."""
    size = len(drift)
    block = expm(np.block([[-drift, diffusion], [np.zeros_like(drift), drift.T]]) * interval)
    matrix = block[size:, size:].T
    return matrix, matrix @ block[:size, size:]


@pytest.mark.parametrize("motion", CONTINUOUS, ids=lambda motion: type(motion).__name__)
@settings(max_examples=30, deadline=None)
@given(first=st.floats(0, 20), second=st.floats(0, 20))
def test_two_intervals_are_as_one(motion: LinearMotion, first: float, second: float) -> None:
    held = control(motion, 0.0)
    start = gaussian(motion)
    joined = motion.predict(
        motion.predict(start, seconds(first, 0.0), held), seconds(second, first + second), held
    )
    at_once = motion.predict(start, seconds(first + second, first + second), held)
    np.testing.assert_allclose(joined.means, at_once.means, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(joined.covariances, at_once.covariances, rtol=1e-9, atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(first=st.integers(0, 40), second=st.integers(0, 40))
def test_steps_are_counted(first: int, second: int) -> None:
    start, held = gaussian(STEPPED), control(STEPPED, 0.0)
    joined = STEPPED.predict(
        STEPPED.predict(start, seconds(first / 2, 0.0), held), seconds(second / 2, 3.0), held
    )
    at_once = STEPPED.predict(start, seconds((first + second) / 2, 3.0), held)
    np.testing.assert_allclose(joined.means, at_once.means, atol=1e-12)
    np.testing.assert_allclose(joined.covariances, at_once.covariances, atol=1e-12)


def test_one_step_is_the_matrices_given_and_nothing_else_is_a_step() -> None:
    matrix, noise = STEPPED.transition(seconds(0.5))
    np.testing.assert_allclose(matrix[0], STEPPED.matrix)
    np.testing.assert_allclose(noise[0], STEPPED.noise)
    with pytest.raises(ValueError, match=r"interval: 0\.7 s is not a multiple of the step of 0\.5 s"):
        STEPPED.transition(seconds(0.5, 0.7))


CHAIN = np.diag([1.0, 1.0], 1)


@pytest.mark.parametrize(
    ("motion", "drift", "diffusion"),
    [
        (ConstantVelocity((0,), (1,), 0.7), CHAIN[1:, 1:], np.diag([0.0, 0.7])),
        (ConstantVelocity((1,), (0,), 0.7, position_density=0.3), CHAIN[1:, 1:].T, np.diag([0.7, 0.3])),
        (ConstantAcceleration((0,), (1,), (2,), 0.4), CHAIN, np.diag([0.0, 0.0, 0.4])),
        (
            ConstantAcceleration((0,), (1,), (2,), 0.4, position_density=0.3),
            CHAIN,
            np.diag([0.3, 0.0, 0.4]),
        ),
        (MeanReverting((0.5, 0.0), (0.0, 0.0), (0.2, 0.3)), np.diag([-0.5, 0.0]), np.diag([0.2, 0.3])),
        (DecayingVelocity((0,), (1,), 1.0, 0.7), np.array(FRICTION), np.diag([0.0, 0.7])),
        (
            DecayingVelocity((0,), (1,), 40.0, 0.7),
            CHAIN[1:, 1:] - np.diag([0.0, 1 / 40]),
            np.diag([0.0, 0.7]),
        ),
        (
            DecayingVelocity((0,), (1,), 1.0, 0.7, position_density=0.3),
            np.array(FRICTION),
            np.diag([0.3, 0.7]),
        ),
        (Linear(FRICTION, ((0.2, 0.1), (0.1, 0.5))), np.array(FRICTION), np.array([[0.2, 0.1], [0.1, 0.5]])),
    ],
    ids=[
        "velocity",
        "velocity with noise of the position",
        "acceleration",
        "acceleration with noise of the position",
        "mean-reverting",
        "friction",
        "little friction",
        "friction with noise of the position",
        "linear",
    ],
)
@pytest.mark.parametrize("interval", [0.01, 1.3, 9.0])
def test_the_discretisation_is_exact(
    motion: LinearMotion, drift: np.ndarray, diffusion: np.ndarray, interval: float
) -> None:
    matrix, noise = van_loan(drift, diffusion, interval)
    ours = motion.transition(seconds(interval))
    np.testing.assert_allclose(ours[0][0], matrix, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours[1][0], noise, rtol=1e-8, atol=1e-12)


def test_a_system_settles_where_it_must_however_long_it_is_left() -> None:
    stable = Linear(((-0.5, 0.2), (0.0, -2.0)), ((1.0, 0.0), (0.0, 3.0)))
    matrix, noise = stable.transition(seconds(1e6))
    assert float(matrix.abs().max()) == 0
    # the stationary covariance solves A P + P Aᵀ + D = 0
    drift, diffusion = (torch.tensor(part, dtype=torch.float64) for part in (stable.drift, stable.diffusion))
    np.testing.assert_allclose(drift @ noise[0] + noise[0] @ drift.T, -diffusion, atol=1e-12)


def test_a_velocity_that_decays_slowly_is_constant() -> None:
    decaying, constant = DecayingVelocity((0, 1), (2, 3), 1e9, 0.7), ConstantVelocity((0, 1), (2, 3), 0.7)
    for ours, theirs in zip(
        decaying.transition(seconds(0.0, 1e-3, 60.0)),
        constant.transition(seconds(0.0, 1e-3, 60.0)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


def test_a_velocity_decays_to_its_settled_spread_and_the_place_stays_where_it_ran_out() -> None:
    motion = DecayingVelocity((0,), (1,), 5.0, 0.7)
    state = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    moved = motion.predict(GaussianMixture.gaussian(state, torch.zeros(1, 2, 2).double()), seconds(1e4))
    np.testing.assert_allclose(moved.means[0, 0], [2.0 + 3.0 * 5.0, 0.0], atol=1e-9)
    assert float(moved.covariances[0, 0, 1, 1]) == pytest.approx(0.7 * 5.0 / 2)
    # far beyond the time constant the place spreads as a random walk of density q τ² that began 3 τ / 2 later
    assert float(moved.covariances[0, 0, 0, 0]) == pytest.approx(0.7 * 25 * (1e4 - 7.5))


def test_mean_reversion_goes_to_the_mean() -> None:
    motion = MeanReverting((0.5, 2.0), (3.0, -1.0), (0.2, 0.3))
    moved = motion.predict(gaussian(motion), seconds(1000.0, 1000.0))
    np.testing.assert_allclose(moved.means, torch.tensor([3.0, -1.0]).expand(2, 2, 2), atol=1e-12)
    np.testing.assert_allclose(moved.covariances[0, 0], np.diag([0.2, 0.075]), atol=1e-12)


def test_an_acceleration_held_moves_as_it_must_and_brings_its_noise() -> None:
    motion, interval = ConstantVelocity((0, 1), (2, 3), 0.0, controlled=True), 3.0
    start = gaussian(motion)
    noise = torch.tensor([[0.4, 0.1], [0.1, 0.2]], dtype=torch.float64).expand(2, 2, 2)
    pushed = motion.predict(
        start, seconds(interval, 0.0), Control(torch.tensor([[2.0, -1.0]] * 2).double(), noise)
    )
    free = motion.predict(start, seconds(interval, 0.0))
    gain = np.kron(np.array([[interval**2 / 2], [interval]]), np.eye(2))
    change = np.broadcast_to(gain @ [2.0, -1.0], (2, 4))
    np.testing.assert_allclose(pushed.means[0] - free.means[0], change, atol=1e-12)
    added = np.broadcast_to(gain @ noise[0].numpy() @ gain.T, (2, 4, 4))
    np.testing.assert_allclose(pushed.covariances[0] - free.covariances[0], added, atol=1e-12)


def test_a_system_takes_its_inputs_as_a_motion_with_a_closed_form_does() -> None:
    closed = ConstantVelocity((0,), (1,), 0.7, controlled=True)
    general = Linear(((0.0, 1.0), (0.0, 0.0)), ((0.0, 0.0), (0.0, 0.7)), ((0.0,), (1.0,)))
    held = control(closed, 0.3)
    ours, theirs = (each.predict(gaussian(each), seconds(0.4, 70.0), held) for each in (general, closed))
    np.testing.assert_allclose(ours.means, theirs.means, rtol=1e-12)
    np.testing.assert_allclose(ours.covariances, theirs.covariances, rtol=1e-10)


EVERY: list[Motion] = [
    *CONTINUOUS,
    STEPPED,
    Unicycle(position_density=0.1, heading_density=0.2),
    Unicycle((1, 2), 0, speed=3, turn_rate=4, heading_density=0.02, speed_density=0.3, turn_rate_density=0.1),
    CoordinatedTurn(acceleration_density=0.3, turn_rate_density=0.1, position_density=0.2),
    CoordinatedTurn((2, 3), (0, 1), turn_rate=None, acceleration_density=0.3),
    *(each for each in MOVED.values() if each not in CONTINUOUS),
]


@pytest.mark.parametrize("motion", EVERY, ids=lambda motion: type(motion).__name__)
def test_particles_go_where_the_mixture_goes(motion: Motion) -> None:
    generator, count = torch.Generator().manual_seed(1), 200_000
    start, interval, held = gaussian(motion).rows(slice(1, 2)), seconds(1.5), control(motion, 0.3)
    first = None if held is None else Control(held.value[1:], held.covariance[1:])
    mean, covariance = motion.predict(start, interval, first).moments()
    states = motion.sample(start.sample(count, generator), interval, first, generator)[0]
    deviation = covariance[0].diagonal().sqrt()
    # the standard error of a mean is count^-1/2 deviations, of a covariance of products at most a few times that
    assert float(((states.mean(0) - mean[0]) / deviation).abs().max()) < 5 / math.sqrt(count)
    error = (torch.cov(states.T) - covariance[0]) / deviation / deviation[:, None]
    assert float(error.abs().max()) < 15 / math.sqrt(count)


@pytest.mark.parametrize("motion", [*CONTINUOUS, STEPPED], ids=lambda motion: type(motion).__name__)
def test_a_prediction_is_that_of_the_change(motion: LinearMotion) -> None:
    start, held, interval = gaussian(motion), control(motion, 0.3), seconds(0.5, 1.5)
    found = motion.predict(start, interval, held)
    matrix, shift, noise = motion.change(interval, held)
    means = torch.einsum("bij,bkj->bki", matrix, start.means) + shift[:, None]
    covariances = torch.einsum("bij,bkjl,bml->bkim", matrix, start.covariances, matrix) + noise[:, None]
    torch.testing.assert_close(found.means, means, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.covariances, covariances, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("motion", EVERY, ids=lambda motion: type(motion).__name__)
def test_no_time_changes_nothing(motion: Motion) -> None:
    start, held = gaussian(motion), control(motion, 0.3)
    still = motion.predict(start, seconds(0.0, 0.0), held)
    assert torch.equal(still.means, start.means)
    np.testing.assert_allclose(still.covariances, start.covariances, rtol=1e-14, atol=1e-15)
    states = start.sample(5, torch.Generator().manual_seed(0))
    assert torch.equal(motion.sample(states, seconds(0.0, 0.0), held), states)


@pytest.mark.parametrize("motion", EVERY, ids=lambda motion: type(motion).__name__)
def test_a_control_that_does_not_fit_is_refused(motion: Motion) -> None:
    one = motion.inputs + 1
    wrong = Control(torch.zeros(2, one).double(), torch.zeros(2, one, one).double())
    with pytest.raises(ValueError, match="control"):
        motion.predict(gaussian(motion), seconds(1.0, 1.0), wrong)


def test_what_is_no_motion_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="positions, velocities"):
        ConstantVelocity((0, 1), (1, 2), 1.0)
    with pytest.raises(ValueError, match="positions, velocities, accelerations"):
        ConstantAcceleration((0,), (1,), (3,), 1.0)
    with pytest.raises(ValueError, match=r"spectral_density: .* got -1\.0"):
        RandomWalk((-1.0,))
    with pytest.raises(ValueError, match=r"position_density: .* got -0\.1"):
        DecayingVelocity((0,), (1,), 2.0, 0.7, position_density=-0.1)
    with pytest.raises(ValueError, match="rate, mean, spectral_density"):
        MeanReverting((1.0,), (0.0, 0.0), (1.0,))
    with pytest.raises(ValueError, match=r"drift: expected \(2, 2\), got \(2, 1\)"):
        Linear(((0.0,), (1.0,)), ((1.0, 0.0), (0.0, 1.0)))
    with pytest.raises(ValueError, match=r"diffusion: expected a positive semidefinite matrix"):
        Linear(FRICTION, ((1.0, 2.0), (2.0, 1.0)))
    with pytest.raises(ValueError, match=r"noise: expected a symmetric matrix"):
        FixedStep(FRICTION, ((1.0, 2.0), (0.0, 1.0)))
    with pytest.raises(ValueError, match=r"step: .* got 0"):
        FixedStep(FRICTION, ((1.0, 0.0), (0.0, 1.0)), step=0.0)
