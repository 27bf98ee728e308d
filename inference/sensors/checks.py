"""Checks of the arguments of sensors; each raises ValueError with the name of the argument and its value."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from beliefstream.inference.likelihood.noise import Array


def selection(axes: Sequence[int], dimension: int) -> Array:
    if any(not 0 <= axis < dimension for axis in axes):
        raise ValueError(f"axes: expected indices of a state of {dimension} coordinates, got {list(axes)}")
    return np.eye(dimension)[list(axes)]


def located(origin: ArrayLike, axes: Sequence[int], name: str = "origin") -> Array:
    position = np.asarray(origin, float)
    if position.shape != (len(axes),):
        raise ValueError(f"{name}: expected {len(axes)} numbers, got shape {position.shape}")
    return position


def count(what: str, axes: Sequence[int], allowed: tuple[int, ...]) -> None:
    if len(axes) not in allowed:
        raise ValueError(f"axes: {what} needs {' or '.join(map(str, allowed))}, got {len(axes)}")


def positive(name: str, value: float) -> float:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name}: must be positive and finite, got {value}")
    return float(value)


def variance(standard_deviation: float) -> Array:
    return np.array([[positive("standard_deviation", standard_deviation) ** 2]])
