"""Built-in measurement functions f(u), with gradient ∂f/∂u and Hessian ∂²f/∂u∂uᵀ, compiled for the processor.

``u = A x − a`` are coordinates relative to the sensor. Lengths are softened: ``|v| = √(vᵀv + SOFT)``, to keep
derivatives finite at a sensor. `BUILT_IN` says what each function takes; its formula is where its value is computed.

A function of the user cannot be called from compiled code. PyTorch evaluates it beforehand, and its value and
derivatives at the point stand in the parameters (`TABULATED`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import array

Array = NDArray[np.float64]

SOFT = 1e-24  # added to a squared distance, far below any noise

TABULATED = 0
PROJECTION, ELEVATION, DEPTH, RANGE_RATE, SIGNAL_STRENGTH = range(1, 6)
TIME_DIFFERENCE, TIME_DIFFERENCES, PSEUDORANGE, POLYNOMIAL = range(6, 10)


@dataclass(frozen=True)
class BuiltIn:
    """A built-in function, in place of one that PyTorch differentiates."""

    name: str
    code: int
    parameters: tuple[str, ...] = ()  # in alphabetical order, as compiled code takes them
    fewest: int = 1  # coordinates

    def __call__(self, state: Tensor, **parameters: Tensor) -> Tensor:
        """Value at one state ``(rows,)``."""
        self.check(len(state), {name: each.numel() for name, each in parameters.items()})
        flat = [parameters[name].reshape(-1) for name in self.parameters]
        return self.evaluate(state[None], torch.cat([state[:0], *flat])[None])[0][0]

    def check(self, rows: int, sizes: Mapping[str, int]) -> None:
        """Check the number of coordinates, and the names of the parameters and how many numbers each has.

        Raises TypeError for a name, ValueError for a number.
        """
        for name in sizes:
            if name not in self.parameters:
                raise TypeError(f"{self.name}() got an unexpected keyword argument {name!r}")
        for name in self.parameters:
            if name not in sizes:
                raise TypeError(f"{self.name}() lacks the argument {name!r}")
        if rows < self.fewest:
            raise ValueError(f"it takes {self.fewest} coordinates or more, got {rows}")
        for name, size in sizes.items():
            fits = size == 1
            if name == "satellite":
                fits = size == rows - 1
            elif name == "weights":
                fits = size > 0 and rows % (size + 1) == 0
            if not fits:
                raise ValueError(f"{name} has {size} numbers, which {rows} coordinates do not take")

    def evaluate(self, states: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values ``(M,)``, gradients ``(M, rows)`` and Hessians ``(M, rows, rows)``, as `Program.derivatives`."""
        count, rows = states.shape
        sizes = np.broadcast_to([rows, parameters.shape[1]], (count, 2))
        table = np.concatenate([sizes, array(parameters)], 1)
        value, gradient, hessian = np.empty(count), np.empty((count, rows)), np.empty((count, rows, rows))
        _evaluate(self.code, table, array(states), value, gradient, hessian)
        found = (torch.from_numpy(each).to(states) for each in (value, gradient, hessian))
        return next(found), next(found), next(found)


BUILT_IN = (
    BuiltIn("projection", PROJECTION),
    BuiltIn("elevation", ELEVATION, fewest=3),
    BuiltIn("landmark_depth", DEPTH, fewest=3),
    BuiltIn("range_rate", RANGE_RATE),
    BuiltIn("signal_strength", SIGNAL_STRENGTH, ("exponent", "reference_distance", "reference_power")),
    BuiltIn("time_difference", TIME_DIFFERENCE, ("propagation_speed",)),
    BuiltIn("time_differences", TIME_DIFFERENCES, ("propagation_speed", "weights")),
    BuiltIn("pseudorange", PSEUDORANGE, ("satellite",)),
)
# it stands for a function of the user, who cannot name it
TAYLOR = BuiltIn("polynomial", POLYNOMIAL, ("gradient", "hessian", "origin", "value"))


def prepare() -> None:
    """Compile the evaluation, or load it from Numba's cache."""
    BUILT_IN[0].evaluate(torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 0, dtype=torch.float64))


@native
def _evaluate(
    code: int, parameters: Array, states: Array, value: Array, gradient: Array, hessian: Array
) -> None:
    for m in range(len(states)):
        value[m] = value_of(code, parameters[m], states[m])
        derivatives_of(code, parameters[m], states[m], gradient[m], hessian[m])


@borrowing
def value_of(code: int, parameters: Array, u: Array) -> float:
    """``f(u)``."""
    rows, value = int(parameters[0]), 0.0
    if code == PROJECTION:  # u₁: one row of a linear sensor, for non-Gaussian noise
        value = u[0]
    elif code == SIGNAL_STRENGTH:
        value = _power(parameters, _square(u, 0, rows))
    elif code == TIME_DIFFERENCE:  # (|u₁| − |u₂|) / c of u = (u₁, u₂), relative to two receivers
        half = rows // 2
        value = (_length(u, 0, half) - _length(u, half, rows)) / parameters[2]
    elif code == TIME_DIFFERENCES:  # Σⱼ wⱼ (|uⱼ| − |u₀|) / c of u = (u₀, u₁, …): delays after the first
        receivers = int(parameters[1]) - 1
        size = rows // (receivers + 1)
        for j in range(receivers):
            start = (j + 1) * size
            value += parameters[3 + j] * (_length(u, start, start + size) - _length(u, 0, size))
        value /= parameters[2]
    elif (
        code == RANGE_RATE
    ):  # pᵀv / |p| + b of u = (p, v) or (p, v, b): how fast the distance grows (Doppler)
        half = rows // 2
        for i in range(half):
            value += u[i] * u[half + i]
        value /= _length(u, 0, half)
        if rows > 2 * half:
            value += u[2 * half]
    elif code == PSEUDORANGE:
        value = _pseudorange(parameters, u, rows - 1)
    elif code == ELEVATION:  # atan2(u₃, |(u₁, u₂)|): above the plane of the first two coordinates
        value = math.atan2(u[2], _length(u, 0, 2))
    elif code == DEPTH:  # of u = (u₁, u₂, θ): how far a landmark is ahead of a heading θ
        value = -(u[0] * math.cos(u[2]) + u[1] * math.sin(u[2]))
    elif code == POLYNOMIAL:
        value = _polynomial(parameters, u, rows)
    else:
        value = parameters[2]
    return value


@borrowing
def derivatives_of(code: int, parameters: Array, u: Array, gradient: Array, hessian: Array) -> None:
    """Fill the gradient ``(R,)`` and the Hessian ``(R, R)``, with zero for what is not finite: that gives no way."""
    rows = int(parameters[0])
    for i in range(len(gradient)):
        gradient[i] = 0.0
        for j in range(len(gradient)):
            hessian[i, j] = 0.0
    if code == PROJECTION:
        gradient[0] = 1.0
    elif code == SIGNAL_STRENGTH:
        _of_power(parameters, u, rows, gradient, hessian)
    elif code == TIME_DIFFERENCE:
        half, over = rows // 2, 1 / parameters[2]
        _add_length(u, 0, half, over, gradient, hessian)
        _add_length(u, half, rows, -over, gradient, hessian)
    elif code == TIME_DIFFERENCES:
        receivers = int(parameters[1]) - 1
        size = rows // (receivers + 1)
        for j in range(receivers):
            weight, start = parameters[3 + j] / parameters[2], (j + 1) * size
            _add_length(u, start, start + size, weight, gradient, hessian)
            _add_length(u, 0, size, -weight, gradient, hessian)
    elif code == RANGE_RATE:
        _of_rate(u, rows // 2, gradient, hessian)
        if rows % 2:
            gradient[rows - 1] = 1.0
    elif code == PSEUDORANGE:
        _of_pseudorange(parameters, u, rows - 1, gradient, hessian)
    elif code == ELEVATION:
        _of_elevation(u, gradient, hessian)
    elif code == DEPTH:
        _of_depth(u, gradient, hessian)
    elif code == POLYNOMIAL:
        _of_polynomial(parameters, u, rows, gradient, hessian)
    else:
        for i in range(rows):
            gradient[i] = parameters[3 + i]
            for j in range(rows):
                hessian[i, j] = parameters[3 + rows + i * rows + j]
    for i in range(rows):
        gradient[i] = gradient[i] if math.isfinite(gradient[i]) else 0.0
        for j in range(rows):
            hessian[i, j] = hessian[i, j] if math.isfinite(hessian[i, j]) else 0.0


@borrowing
def _polynomial(parameters: Array, u: Array, rows: int) -> float:
    """``v + gᵀd + ½ dᵀHd``, ``d = u − origin``; parameters are g, H, the origin and v."""
    hessian, origin = 2 + rows, 2 + rows + rows * rows
    value: float = parameters[origin + rows]
    for i in range(rows):
        slope = parameters[2 + i]
        for j in range(rows):
            slope += 0.5 * parameters[hessian + i * rows + j] * (u[j] - parameters[origin + j])
        value += slope * (u[i] - parameters[origin + i])
    return value


@borrowing
def _of_polynomial(parameters: Array, u: Array, rows: int, gradient: Array, hessian: Array) -> None:
    start, origin = 2 + rows, 2 + rows + rows * rows
    for i in range(rows):
        gradient[i] = parameters[2 + i]
        for j in range(rows):
            hessian[i, j] = parameters[start + i * rows + j]
            gradient[i] += hessian[i, j] * (u[j] - parameters[origin + j])


@borrowing
def _square(u: Array, start: int, end: int) -> float:
    total = SOFT
    for i in range(start, end):
        total += u[i] * u[i]
    return total


@borrowing
def _length(u: Array, start: int, end: int) -> float:
    return math.sqrt(_square(u, start, end))


@borrowing
def _power(parameters: Array, square: float) -> float:
    """``P₀ − 10 n log₁₀(|u| / d₀)``, decibels; parameters are n, d₀ and P₀.

    It is the log-distance law (T. S. Rappaport, "Wireless Communications", 2nd edition, 2002, eq. 4.69a).
    """
    decades = (0.5 * math.log(square) - math.log(parameters[3])) / math.log(10.0)
    power: float = parameters[4] - 10 * parameters[2] * decades
    return power


@borrowing
def _of_power(parameters: Array, u: Array, rows: int, gradient: Array, hessian: Array) -> None:
    """With ``c = −10 n / ln 10``: gradient ``c u / |u|²``, Hessian ``c (I / |u|² − 2 u uᵀ / |u|⁴)``."""
    square = _square(u, 0, rows)
    scale = -10 * parameters[2] / math.log(10.0) / square
    for i in range(rows):
        gradient[i] = scale * u[i]
        for j in range(rows):
            hessian[i, j] = -2 * scale * (u[i] / square) * u[j]
        hessian[i, i] += scale


@borrowing
def _add_length(u: Array, start: int, end: int, weight: float, gradient: Array, hessian: Array) -> None:
    """Add the derivatives of a weighted length: ``u / |u|`` and ``(I − u uᵀ / |u|²) / |u|``."""
    over = 1 / _length(u, start, end)
    for i in range(start, end):
        gradient[i] += weight * (u[i] * over)
        for j in range(start, end):
            hessian[i, j] -= weight * (u[i] * over) * (u[j] * over) * over
        hessian[i, i] += weight * over


@borrowing
def _pseudorange(parameters: Array, u: Array, size: int) -> float:
    """``|p − s| − |s| + b`` of ``u = (p, b)``; parameters are s, a satellite.

    It is how much farther than the origin p is from s, and a clock. As ``(|p|² − 2 pᵀs) / (|p − s| + |s|) + b``, large
    numbers do not cancel.
    """
    farther, squared, satellite = 0.0, SOFT, SOFT
    for i in range(size):
        s = parameters[2 + i]
        farther += u[i] * (u[i] - 2 * s)
        squared += (u[i] - s) * (u[i] - s)
        satellite += s * s
    total: float = farther / (math.sqrt(squared) + math.sqrt(satellite)) + u[size]
    return total


@borrowing
def _of_pseudorange(parameters: Array, u: Array, size: int, gradient: Array, hessian: Array) -> None:
    """With ``n = (p − s) / |p − s|``: gradient n and 1, Hessian ``(I − n nᵀ) / |p − s|``."""
    squared = SOFT
    for i in range(size):
        squared += (u[i] - parameters[2 + i]) * (u[i] - parameters[2 + i])
    over = 1 / math.sqrt(squared)
    for i in range(size):
        gradient[i] = (u[i] - parameters[2 + i]) * over
    for i in range(size):
        for j in range(size):
            hessian[i, j] = -gradient[i] * gradient[j] * over
        hessian[i, i] += over
    gradient[size] = 1.0


@borrowing
def _of_rate(u: Array, half: int, gradient: Array, hessian: Array) -> None:
    """Of ``f = pᵀv / |p|`` with ``n = p / |p|``: ``∂f/∂p = (v − f n) / |p|``, ``∂f/∂v = n``."""
    over, rate = 1 / _length(u, 0, half), 0.0
    for i in range(half):
        rate += u[i] * over * u[half + i]
    for i in range(half):
        one = u[i] * over
        gradient[i], gradient[half + i] = (u[half + i] - rate * one) * over, one
        for j in range(half):
            other = u[j] * over
            turn = 3 * rate * one * other - u[half + i] * other - one * u[half + j]
            hessian[i, j] = turn * over * over
            hessian[i, half + j] = hessian[half + j, i] = -one * other * over
        hessian[i, i] -= rate * over * over
    for i in range(half):
        hessian[i, half + i] += over
        hessian[half + i, i] = hessian[i, half + i]


@borrowing
def _of_elevation(u: Array, gradient: Array, hessian: Array) -> None:
    """Of ``atan2(z, ρ)`` with ``ρ = |(u₁, u₂)|`` and ``s² = ρ² + z²``: ``∂/∂ρ = −z / s²``, ``∂/∂z = ρ / s²``."""
    across, z = _length(u, 0, 2), u[2]
    square = across * across + z * z
    by_across, by_z = -z / square, across / square
    bend, mixed = -2 * by_across * by_z, (z / square) * (z / square) - by_z * by_z
    gradient[2], hessian[2, 2] = by_z, -bend
    for i in range(2):
        one = u[i] / across
        gradient[i] = by_across * one
        hessian[i, 2] = hessian[2, i] = mixed * one
        for j in range(2):
            other = u[j] / across
            hessian[i, j] = bend * one * other - by_across * one * other / across
        hessian[i, i] += by_across / across


@borrowing
def _of_depth(u: Array, gradient: Array, hessian: Array) -> None:
    """Of ``−(u₁ cos θ + u₂ sin θ)``."""
    c, s = math.cos(u[2]), math.sin(u[2])
    gradient[0], gradient[1], gradient[2] = -c, -s, u[0] * s - u[1] * c
    hessian[0, 2] = hessian[2, 0] = s
    hessian[1, 2] = hessian[2, 1] = -c
    hessian[2, 2] = u[0] * c + u[1] * s
