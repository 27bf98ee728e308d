"""Task 5: factor stochastic volatility (arXiv 2502.02463, section 4.3.2), in NumPy.

Ten log volatilities x' = δ x + σ n, and thirty returns z ~ N(0, F diag(eˣ) Fᵀ + I) with loadings F ~ N(0, 1). The
publication gives neither δ nor σ; `CONSTANTS` has two choices, so that a ranking can be seen not to depend on them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from research.paper.exact.grids import Array
from research.paper.exact.particles import LOG_TAU

FACTORS, RETURNS = 10, 30
CHUNK = 20_000  # particles at once: of a million, the matrices would take gigabytes


class Constants(NamedTuple):
    """Persistence δ, and standard deviation σ of a step."""

    persistence: float
    step: float

    @property
    def spread(self) -> float:
        """Standard deviation of a log volatility in the long run, which is also that of the first one."""
        return self.step / math.sqrt(1 - self.persistence**2)


CONSTANTS = {"δ .95, σ .3": Constants(0.95, 0.3), "δ .8, σ .6": Constants(0.8, 0.6)}


class Series(NamedTuple):
    """Log volatilities ``(S, T, 10)``, returns ``(S, T, 30)`` and loadings ``(S, 30, 10)``."""

    states: Array
    returns: Array
    loadings: Array


class Likelihood(NamedTuple):
    """Returns of one step through what the likelihood needs of them: ``G = FᵀF``, ``b = Fᵀz`` and ``zᵀz``."""

    gram: Array  # (S, 10, 10)
    projected: Array  # (S, 10)
    square: Array  # (S,)

    @classmethod
    def of(cls, loadings: Array, returns: Array) -> Likelihood:
        """Return that of loadings ``(S, 30, 10)`` and returns ``(S, 30)``."""
        projected = np.einsum("srf,sr->sf", loadings, returns)
        return cls(loadings.transpose(0, 2, 1) @ loadings, projected, (returns**2).sum(1))

    def log_density(self, states: Array) -> Array:
        """Return log p(z | x) for states ``(S, N, 10)``.

        By Woodbury, with D = diag(e^{x/2}) and A = I + D G D: log |Σ| = log |A|, and zᵀΣ⁻¹z = zᵀz − (Db)ᵀA⁻¹Db.
        """
        chunks = range(0, states.shape[1], CHUNK)
        return np.concatenate([self._log_density(states[:, start : start + CHUNK]) for start in chunks], 1)

    def _log_density(self, states: Array) -> Array:
        scale = np.exp(states / 2)
        inner = scale[..., None] * self.gram[:, None] * scale[..., None, :] + np.eye(FACTORS)
        factor = np.linalg.cholesky(inner)
        half = np.linalg.solve(factor, (scale * self.projected[:, None])[..., None])[..., 0]
        determinant = 2 * np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
        quadratic = self.square[:, None] - (half**2).sum(-1)
        return np.asarray(-0.5 * (determinant + quadratic + RETURNS * LOG_TAU))

    def slope(self, state: Array) -> tuple[Array, Array]:
        """Return the gradient ``(S, 10)`` of the log density at `state` ``(S, 10)``, and the Fisher information.

        ∂Σ/∂xᵢ = e^{xᵢ} fᵢfᵢᵀ, so the gradient is ½ ((D FᵀΣ⁻¹z)ᵢ² − (D FᵀΣ⁻¹F D)ᵢᵢ), and the information is half the
        square of each element of D FᵀΣ⁻¹F D.
        """
        scale = np.exp(state / 2)
        weighted = scale[:, :, None] * self.gram * scale[:, None]  # D G D
        inner = np.linalg.inv(weighted + np.eye(FACTORS))
        # D FᵀΣ⁻¹F D = A⁻¹ D G D, and D FᵀΣ⁻¹z = A⁻¹ D b
        whole = inner @ weighted
        pulled = (inner @ (scale * self.projected)[..., None])[..., 0]
        gradient = 0.5 * (pulled**2 - np.diagonal(whole, axis1=1, axis2=2))
        return gradient, 0.5 * whole**2


def simulate(constants: Constants, series: int, steps: int, seed: int) -> Series:
    """Draw series; each has loadings of its own."""
    numbers = np.random.default_rng(seed)
    loadings = numbers.normal(size=(series, RETURNS, FACTORS))
    state = constants.spread * numbers.normal(size=(series, FACTORS))
    states, returns = [], []
    for step in range(steps):
        if step:
            state = constants.persistence * state + constants.step * numbers.normal(size=state.shape)
        factors = np.exp(state / 2) * numbers.normal(size=state.shape)
        states.append(state)
        returns.append(np.einsum("srf,sf->sr", loadings, factors) + numbers.normal(size=(series, RETURNS)))
    return Series(np.stack(states, 1), np.stack(returns, 1), loadings)
