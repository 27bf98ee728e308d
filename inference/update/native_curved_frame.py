"""The frame of one bent observation at one component, for `native_curved_quadrature`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_derivatives import SOFT, angle, length
from beliefstream.inference.likelihood.native_terms import Seen, wrapped
from beliefstream.inference.likelihood.observation_data import ANGLE
from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class Frame(NamedTuple):
    """A component in the frame of an observation: its first axis is the line along which the observation changes."""

    lower: Array  # (d, d), factor of the seen covariance
    axes: Array  # (d, d), the frame's axes in that of `lower`
    factor: Array  # (d, d), of the seen covariance, along the axes
    plain: Array  # (R, d), of the coordinates relative to the sensor, as the next two
    matrix: Array  # (R, d), along the axes
    relative: Array  # (R,)
    base: Array  # (R,), space
    heading: Array  # (2, d), the second along the axes
    whole: Array  # (D, d), regression of the state on the axes
    rest: Array  # (D, D), covariance that is left
    vectors: tuple[Array, Array]  # gradient and slope, (d,)
    squares: tuple[Array, Array, Array]  # information, curvature and space, (d, d)


class Sensor(NamedTuple):
    """One observation, as a component sees it."""

    is_angle: bool
    value: float
    deviation: float
    turn: float  # heading times the component's mean


@inner
def new_frame(seen: int, size: int, rows: int) -> Frame:
    squares, vectors = np.empty((6, seen, seen)), np.empty((2, seen))
    matrices, relative = np.empty((2, rows, seen)), np.empty((2, rows))
    return Frame(
        squares[0], squares[1], squares[2],
        matrices[0], matrices[1], relative[0], relative[1],
        np.empty((2, seen)), np.empty((size, seen)), np.empty((size, size)),
        (vectors[0], vectors[1]), (squares[3], squares[4], squares[5]),
    )  # fmt: skip


@borrowing
def sensor_at(prior: Numbers, b: int, k: int, seen: Seen, n: int) -> Sensor:
    turn = 0.0
    for i in range(prior.means.shape[2]):
        turn += seen.heading[b, n, i] * prior.means[b, k, i]
    is_angle = seen.kind[b, n] == ANGLE and seen.matrix.shape[2] > 1
    return Sensor(is_angle, seen.value[b, n, 0], seen.deviation[b, n], turn)


@borrowing
def fill_frame(
    prior: Numbers, b: int, k: int, seen: Seen, n: int, axes: Places, sensor: Sensor, frame: Frame
) -> tuple[float, float, float, float]:
    """Fill the frame; the bend, the distance to the other side in standard deviations, the spread and the residual."""
    covariance, size = prior.covariances[b, k], len(axes)
    for i in range(size):
        for j in range(size):
            frame.squares[2][i, j] = covariance[axes[i], axes[j]]
    factorise(frame.squares[2], TINY, ROUNDING, frame.lower)
    rows = len(frame.relative)
    for r in range(rows):
        frame.relative[r] = -seen.origin[b, n, r]
        for i in range(prior.means.shape[2]):
            frame.relative[r] += seen.matrix[b, n, r, i] * prior.means[b, k, i]
        for j in range(size):
            frame.plain[r, j] = 0.0
            for i in range(j, size):
                frame.plain[r, j] += seen.matrix[b, n, r, axes[i]] * frame.lower[i, j]
    for j in range(size):
        frame.heading[0, j] = 0.0
        for i in range(j, size):
            frame.heading[0, j] += seen.heading[b, n, axes[i]] * frame.lower[i, j]
    signed, distance = _derivatives(sensor, frame)
    bend = spread = radial = 0.0
    for j in range(size):
        total = 0.0
        for r in range(2 if sensor.is_angle else rows):
            total += frame.plain[r, j] * frame.relative[r]
        radial += total * total
        spread += frame.vectors[1][j] * frame.vectors[1][j]
        for i in range(size):
            bend += frame.squares[1][i, j] * frame.squares[1][i, j]
    _turn(math.sqrt(spread), frame)
    _regress(covariance, axes, frame)
    away = _foot(frame) if not sensor.is_angle else distance * distance / math.sqrt(radial)
    return math.sqrt(bend), away, math.sqrt(spread), signed


@borrowing
def _foot(frame: Frame) -> float:
    """Standard deviations to where a distance is shortest along lines of nodes: the other side of the ring is beyond.

    These points are a plane. It is as far as the sensor only where the lines lead to the sensor.
    """
    along = across = 0.0
    for j in range(frame.plain.shape[1]):
        total = 0.0
        for r in range(len(frame.relative)):
            total += frame.plain[r, j] * frame.matrix[r, 0]
        across += total * total
    for r in range(len(frame.relative)):
        along += frame.relative[r] * frame.matrix[r, 0]
    return abs(along) / math.sqrt(across)


@borrowing
def _derivatives(sensor: Sensor, frame: Frame) -> tuple[float, float]:
    """Fill slope and curvature at the mean; the signed residual, and the distance to the sensor."""
    relative, squared = frame.relative, SOFT
    for r in range(2 if sensor.is_angle else len(relative)):
        squared += relative[r] * relative[r]
    distance = math.sqrt(squared)
    into = (frame.vectors[0], frame.squares[0], frame.squares[1], frame.vectors[1])
    if sensor.is_angle:
        off = wrapped(sensor.value - (math.atan2(relative[1], relative[0]) - sensor.turn))
        angle(frame.plain, frame.heading[0], relative, sensor.deviation, off / sensor.deviation, into)
        return off / sensor.deviation, distance
    off = sensor.value - distance
    length(frame.plain, relative, distance, sensor.deviation, off / sensor.deviation, into)
    return off / sensor.deviation, distance


@borrowing
def _turn(spread: float, frame: Frame) -> None:
    """Fill the axes: the first along the slope, the second along the largest bend across it."""
    axes, slope, curvature, size = frame.axes, frame.vectors[1], frame.squares[1], len(frame.axes)
    for i in range(size):
        axes[i, 0] = slope[i] / spread
    if size == 2:
        axes[0, 1], axes[1, 1] = -axes[1, 0], axes[0, 0]
    if size == 3:
        least = 0
        for i in range(1, 3):
            least = i if abs(axes[i, 0]) < abs(axes[least, 0]) else least
        norm = math.sqrt(1 - axes[least, 0] * axes[least, 0])
        for i in range(3):
            axes[i, 1] = ((1.0 if i == least else 0.0) - axes[least, 0] * axes[i, 0]) / norm
        for i in range(3):
            j, k = (i + 1) % 3, (i + 2) % 3
            axes[i, 2] = axes[j, 0] * axes[k, 1] - axes[k, 0] * axes[j, 1]
        # the squared curvature across, of which the largest eigenvector is the second axis
        first = second = both = 0.0
        for i in range(3):
            one = other = 0.0
            for j in range(3):
                one += curvature[i, j] * axes[j, 1]
                other += curvature[i, j] * axes[j, 2]
            first, second, both = first + one * one, second + other * other, both + one * other
        turn = 0.5 * math.atan2(2 * both, first - second)
        for i in range(3):
            one, other = axes[i, 1], axes[i, 2]
            axes[i, 1] = math.cos(turn) * one + math.sin(turn) * other
            axes[i, 2] = math.cos(turn) * other - math.sin(turn) * one
    for j in range(size):
        frame.heading[1, j] = 0.0
        for i in range(size):
            frame.heading[1, j] += frame.heading[0, i] * axes[i, j]
            frame.factor[i, j] = 0.0
            for m in range(i + 1):
                frame.factor[i, j] += frame.lower[i, m] * axes[m, j]
        for r in range(len(frame.matrix)):
            frame.matrix[r, j] = 0.0
            for i in range(size):
                frame.matrix[r, j] += frame.plain[r, i] * axes[i, j]


@borrowing
def _regress(covariance: Array, axes: Places, frame: Frame) -> None:
    """Fill the regression of the whole state on the frame, and the covariance that it leaves."""
    whole, lower, size = frame.whole, frame.lower, len(axes)
    for i in range(len(whole)):
        for j in range(size):
            value = covariance[i, axes[j]]
            for m in range(j):
                value -= lower[j, m] * frame.vectors[0][m]
            frame.vectors[0][j] = value / lower[j, j]
        for j in range(size):
            whole[i, j] = 0.0
            for m in range(size):
                whole[i, j] += frame.vectors[0][m] * frame.axes[m, j]
    for i in range(size):  # seen coordinates follow exactly
        for j in range(size):
            whole[axes[i], j] = frame.factor[i, j]
    for i in range(len(whole)):
        for j in range(i + 1):
            value = 0.5 * (covariance[i, j] + covariance[j, i])
            for m in range(size):
                value -= whole[i, m] * whole[j, m]
            frame.rest[i, j] = frame.rest[j, i] = value
    for i in range(size):
        for j in range(len(whole)):
            frame.rest[axes[i], j] = frame.rest[j, axes[i]] = 0.0
