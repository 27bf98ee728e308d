from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm

from inference.motion import ConstantVelocity, LinearMotion, RandomWalk

MOTIONS: list[LinearMotion] = [
    RandomWalk((0.5, 2.0)),
    ConstantVelocity((0, 1), (2, 3), 0.7),
    ConstantVelocity((1,), (0,), 3.0),
]


@pytest.mark.parametrize("motion", MOTIONS)
@given(first=st.floats(0, 20), second=st.floats(0, 20))
def test_two_intervals_are_as_one(motion: LinearMotion, first: float, second: float) -> None:
    transition, noise = motion.transition(torch.tensor([first, second, first + second]))
    np.testing.assert_allclose(transition[1] @ transition[0], transition[2], atol=1e-5)
    joined = transition[1] @ noise[0] @ transition[1].T + noise[1]
    np.testing.assert_allclose(joined, noise[2], rtol=1e-5, atol=1e-5)


def test_constant_velocity_is_the_exact_discretisation() -> None:
    # Van Loan, "Computing integrals involving the matrix exponential", IEEE Trans. Automatic Control 23(3), 1978
    drift = np.array([[0.0, 1.0], [0.0, 0.0]])
    diffusion = np.array([[0.0, 0.0], [0.0, 0.7]])
    interval = 1.3
    block = expm(np.block([[-drift, diffusion], [np.zeros((2, 2)), drift.T]]) * interval)
    transition = block[2:, 2:].T
    noise = transition @ block[:2, 2:]
    ours = ConstantVelocity((0,), (1,), 0.7).transition(torch.tensor([interval], dtype=torch.float64))
    np.testing.assert_allclose(ours[0][0], transition, atol=1e-12)
    np.testing.assert_allclose(ours[1][0], noise, atol=1e-12)


def test_no_time_changes_nothing() -> None:
    for motion in MOTIONS:
        transition, noise = motion.transition(torch.zeros(1))
        assert torch.equal(transition[0], torch.eye(motion.dimension, dtype=torch.float64))
        assert float(noise.abs().max()) == 0


def test_positions_and_velocities_must_pair_up_all_coordinates() -> None:
    with pytest.raises(ValueError, match="positions, velocities"):
        ConstantVelocity((0, 1), (1, 2), 1.0)
