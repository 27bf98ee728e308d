"""Exact mean and covariance of a turning path, for Gaussian beliefs about its direction and speed.

A path moves with the complex velocity ``c(s) = U(s) exp(iθ(s))``. ``U`` is the velocity in the turning frame, and ``θ``
is the angle of that frame. Both are linear in one Gaussian vector ``a`` of the initial state, the inputs, and the
coefficients of the noise over the interval. So the characteristic function of a Gaussian and its derivatives give every
moment in closed form. With ``κ_i = Cov(U_i, θ)``,

    E[exp(iθ)]         = exp(i E[θ] - Var θ / 2)
    E[U_1 exp(iθ)]     = (E[U_1] + i κ_1) E[exp(iθ)]
    E[U_1 U_2 exp(iθ)] = (Cov(U_1, U_2) + (E[U_1] + i κ_1)(E[U_2] + i κ_2)) E[exp(iθ)]

The displacement is the integral of ``c``, a Gauss-Legendre sum over a few times. So the result is the exact covariance
of a random vector, and positive semidefinite by construction.

White noise over [0, T] is represented by the first Legendre polynomials, ``dW/ds ≈ Σ_k ξ_k φ_k(s)`` with ``ξ_k``
independent (Foster, Lyons and Oberhauser, "An optimal polynomial approximation of Brownian motion", SIAM Journal on
Numerical Analysis 58(3), 2020). With two of them its integral and its double integral are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la


class Resolution(NamedTuple):
    """Number of nodes over an interval, and the limits of paths for which it is accurate enough.

    Up to `turn`, errors of means and covariances are below 5e-4 standard deviations. Noise up to `wander` adds an error
    of up to 0.015 to the displacement. `tests/inference/motion/test_motion_turning.py` checks both.
    """

    nodes: int  # number of times, and of Legendre polynomials of each noise
    turn: float  # radians over the interval
    wander: float  # radians²: q T of the heading's white noise and q T³ / 30 of the turn rate's


RESOLUTIONS = (
    Resolution(3, 1.4, 0.02),
    Resolution(4, 3.0, 0.06),
    Resolution(8, 9.0, 0.3),
    Resolution(16, 23.0, 1.0),
    Resolution(32, 50.0, 3.0),
    Resolution(64, 105.0, 8.0),
    Resolution(128, 215.0, 20.0),
)


@dataclass(frozen=True)
class Nodes:
    """Times at which a path is evaluated.

    Attributes:
        fractions: times as fractions of an interval, ``(n + 1,)``; the last is the end.
        weights: weights of an integral over [0, 1], ``(n + 1,)``; that of the end is zero.
        brownian: unit Brownian motion at those times as a linear map of the noise coefficients, ``(n + 1, n)``.
        integrated: integral of that Brownian motion, ``(n + 1, n)``.
    """

    fractions: Tensor
    weights: Tensor
    brownian: Tensor
    integrated: Tensor


@cache
def nodes(count: int) -> Nodes:
    """Return `count` Gauss-Legendre nodes of [0, 1], followed by the end."""
    at, weights = legendre.leggauss(count)
    at = np.append(at, 1.0)
    columns = []
    for k in range(count):
        series = np.sqrt(2 * k + 1) * np.eye(count)[k]
        once, twice = (legendre.legint(series, order, lbnd=-1) / 2**order for order in (1, 2))
        columns.append((legendre.legval(at, once), legendre.legval(at, twice)))
    brownian, integrated = (torch.tensor(np.stack(part, 1)) for part in zip(*columns, strict=True))
    return Nodes(torch.tensor((at + 1) / 2), torch.tensor(np.append(weights / 2, 0.0)), brownian, integrated)


@dataclass(frozen=True)
class Path:
    """A path as a function of the Gaussian vector ``a`` of ``A`` numbers, one entity per row.

    The outcome is ``Y = weights c + offset a`` and ``R = rest a``.

    Attributes:
        turn: gives ``θ`` at ``n`` times, ``(B, n, A)``, real.
        velocity: gives ``U`` at ``n`` times, ``(B, n, A)``, complex.
        weights: ``(B, M, n)``, real.
        offset: ``(B, M, A)``, complex.
        rest: ``(B, R, A)``, real.
    """

    turn: Tensor
    velocity: Tensor
    weights: Tensor
    offset: Tensor
    rest: Tensor

    def beside(self, place: int, count: int) -> Path:
        """The path with `count` more numbers at `place` in ``a``, which do not change, at the end of the outcome."""
        if not count:
            return self

        def wider(rows: Tensor) -> Tensor:
            before, after = rows.tensor_split([place], -1)
            return torch.cat([before, rows.new_zeros(*rows.shape[:-1], count), after], -1)

        turn, velocity, offset, rest = map(wider, (self.turn, self.velocity, self.offset, self.rest))
        still = rest.new_zeros(len(rest), count, rest.shape[-1])
        still[..., place : place + count] = torch.eye(count, dtype=rest.dtype, device=rest.device)
        return Path(turn, velocity, self.weights, offset, torch.cat([rest, still], 1))

    def evaluate(self, points: Tensor) -> Tensor:
        """Return ``(Re Y, Im Y, R)`` at `points` ``(B, P, A)``, ``(B, P, 2 M + R)``."""
        turn = points @ self.turn.mT
        speed = torch.complex(points @ self.velocity.real.mT, points @ self.velocity.imag.mT)
        outcome = (speed * torch.polar(torch.ones_like(turn), turn)) @ self.weights.mT.to(speed.dtype)
        moved = torch.cat([outcome.real, outcome.imag], -1)
        linear = points @ self._linear().mT
        linear[..., : moved.shape[-1]] += moved
        return linear

    def moments(self, mean: Tensor, covariance: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean ``(B, K, E)`` and covariance ``(B, K, E, E)`` of ``(Re Y, Im Y, R)``, with ``E = 2 M + R``.

        The first ``S`` numbers of ``a`` have `mean` ``(B, K, S)`` and `covariance` ``(B, K, S, S)``. The other numbers
        are independent, with mean zero and the variances `noise` ``(A - S,)``.
        """
        count, linear = self.turn.shape[1], self._linear()
        rows = torch.cat([self.turn, self.velocity.real, self.velocity.imag, linear], 1)
        rows, white = rows.tensor_split([mean.shape[-1]], -1)
        centre = mean @ rows.mT
        spread = _times(_times(covariance, rows).mT, rows) + ((white * noise) @ white.mT)[:, None]
        turn, plain = slice(0, count), slice(3 * count, None)
        speed = _complex_rows(centre[..., None], count)[..., 0]
        speed_to_turn = _complex_rows(spread[..., turn], count)
        tilted = speed + 1j * speed_to_turn.diagonal(dim1=-2, dim2=-1)
        variance = spread[..., turn, turn].diagonal(dim1=-2, dim2=-1)
        phase = torch.polar(torch.exp(-0.5 * variance), centre[..., turn])
        first = tilted * phase  # E[c]
        # Cov(c, linear rows)
        to_turn, to_speed = spread[..., turn, plain], _complex_rows(spread[..., plain], count)
        cross = (to_speed + 1j * tilted[..., None] * to_turn) * phase[..., None]
        second = _second_moments(centre, spread, speed, speed_to_turn)
        return self._collect(centre[..., plain], spread[..., plain, plain], first, cross, second)

    def _linear(self) -> Tensor:
        return torch.cat([self.offset.real, self.offset.imag, self.rest], 1)

    def _collect(
        self, centre: Tensor, spread: Tensor, first: Tensor, cross: Tensor, second: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Combine the moments of the linear rows and of ``c`` to those of the outcome."""
        weights = self.weights.to(first.dtype)
        mean = first @ weights.mT
        crossed = _times(cross.mT, weights).mT
        against, along = (_times(_times(each.mT, weights).mT, weights) for each in second)
        against = against - mean[..., :, None] * mean.conj()[..., None, :]
        along = along - mean[..., :, None] * mean[..., None, :]
        half = mean.shape[-1]
        total = spread.clone()
        total[..., :half, :half] += 0.5 * (against + along).real
        total[..., half : 2 * half, half : 2 * half] += 0.5 * (against - along).real
        mixed = 0.5 * (along - against).imag  # Cov(Re, Im)
        total[..., :half, half : 2 * half] += mixed
        total[..., half : 2 * half, :half] += mixed.mT
        onto = torch.cat([crossed.real, crossed.imag], -2)
        total[..., : 2 * half, :] += onto
        total[..., :, : 2 * half] += onto.mT
        # a difference of second moments has their rounding error, which is added to the variances
        size = first.abs() @ self.weights.mT
        rounding = (16 * torch.finfo(total.dtype).eps * size.square()).repeat(1, 1, 2)
        total.diagonal(dim1=-2, dim2=-1)[..., : 2 * half] += rounding
        centre = centre.clone()
        centre[..., : 2 * half] += torch.cat([mean.real, mean.imag], -1)
        return centre, la.symmetrise(total)


def _times(left: Tensor, rows: Tensor) -> Tensor:
    """Return ``left rowsᵀ`` of ``(B, K, X, A)`` and ``(B, R, A)``, by one product per entity."""
    batch, components, size, _ = left.shape
    product = left.reshape(batch, components * size, -1) @ rows.mT
    return product.view(batch, components, size, -1)


def _complex_rows(rows: Tensor, count: int) -> Tensor:
    """Return the rows ``(..., count, X)`` of ``U`` from stacked rows of ``θ``, ``Re U``, ``Im U`` and others."""
    return torch.complex(rows[..., count : 2 * count, :], rows[..., 2 * count : 3 * count, :])


def _second_moments(
    centre: Tensor, spread: Tensor, speed: Tensor, speed_to_turn: Tensor
) -> tuple[Tensor, Tensor]:
    """Return ``E[c_i c_j*]`` and ``E[c_i c_j]``, each ``(B, K, n, n)``."""
    count = speed.shape[-1]
    turn, real, imaginary = (slice(i * count, (i + 1) * count) for i in range(3))
    rr, ii, ri = spread[..., real, real], spread[..., imaginary, imaginary], spread[..., real, imaginary]
    angle, own = centre[..., turn], spread[..., turn, turn]
    variance = own.diagonal(dim1=-2, dim2=-1)
    both = variance[..., :, None] + variance[..., None, :]
    here = speed_to_turn.diagonal(dim1=-2, dim2=-1)[..., :, None]
    results = []
    for sign in (
        -1,
        1,
    ):  # first the difference of angles with the conjugate velocity, then the sum without conjugation
        joint = torch.complex(rr - sign * ii, ri.mT + sign * ri)
        left = speed[..., :, None] + 1j * (here + sign * speed_to_turn)
        right = left.mT if sign > 0 else left.mH
        size = torch.exp(-0.5 * (both + 2 * sign * own))
        phase = torch.polar(size, angle[..., :, None] + sign * angle[..., None, :])
        results.append((joint + left * right) * phase)
    return results[0], results[1]
