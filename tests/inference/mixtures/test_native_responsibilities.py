"""Shares of points among components against PyTorch's operators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numba import njit
from numpy.typing import NDArray

from beliefstream.inference.mixtures.mixture import component_log_density
from beliefstream.inference.mixtures.native_density import BLOCK, new_block, whiten
from beliefstream.inference.mixtures.native_fitting import share_points
from tests.inference.mixtures.test_native_reduction import drawn

Array = NDArray[np.float64]


@njit(error_model="numpy")
def shared(
    mixture: tuple[Array, Array, Array], points: Array, shares: Array, spreads: Array, wide: bool
) -> tuple[Array, NDArray[np.bool_], float]:
    """Parts of points, whether a component has any, and the mean log density."""
    log_weights, means, factors = mixture
    count = len(means)
    inverse, shift, peaks = np.empty((count, 2, 2)), np.empty((count, 2)), np.empty(count)
    block, near = new_block(count, 2), np.empty(count, np.bool_)
    whiten(log_weights, means, factors, inverse, shift, peaks)
    block.points[:] = points
    density = share_points((inverse, shift, peaks), shares, spreads, wide, block, near)
    return block.values * block.offset, near, density


@settings(max_examples=60, deadline=None)
@given(
    components=st.integers(1, 20),
    spread=st.sampled_from([0.1, 1.0, 10.0, 100.0, 1e4]),
    wide=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_parts_are_those_of_operators(components: int, spread: float, wide: bool, seed: int) -> None:
    """Of points near the components, and of such as are far from all of them."""
    generator = torch.Generator().manual_seed(seed)
    mixture = drawn(1, components, 2, generator)
    points = spread * torch.randn(BLOCK, 2, generator=generator, dtype=torch.float64)
    shares = torch.rand(BLOCK, generator=generator, dtype=torch.float64).softmax(0)
    spreads = torch.rand(BLOCK, 3, generator=generator, dtype=torch.float64)
    cells = torch.stack([spreads[:, 0], spreads[:, 1], spreads[:, 1], spreads[:, 2]], 1).view(BLOCK, 2, 2)
    logs = mixture.log_weights[..., None] + component_log_density(
        points[None], mixture.means, mixture.factors()
    )
    if wide:
        precisions = torch.cholesky_inverse(mixture.factors()[0])
        logs = logs - 0.5 * torch.einsum("kij,pij->kp", precisions, cells)
    expected = shares * logs[0].softmax(0)
    given = mixture.log_weights[0].numpy(), mixture.means[0].numpy(), mixture.factors()[0].numpy()
    parts, near, density = shared(given, points.T.numpy(), shares.numpy(), spreads.T.numpy(), wide)
    there = near[:, None] & (expected.numpy() > 1e-30)
    np.testing.assert_allclose(parts[there], expected.numpy()[there], rtol=2e-9)
    assert expected.numpy()[~near].sum() < 1e-15
    assert density == pytest.approx(float((shares * logs[0].logsumexp(0)).sum()), rel=1e-12, abs=1e-9)
