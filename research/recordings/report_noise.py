"""Fits the noise of ships' reports without a known truth, by a Kalman filter of all ships at once.

Course and speed are converted to a velocity with the corresponding noise along and across it. So the filter is linear,
and its log evidence is a sum over the reports. A position has an additional error along the course, from the error of
the report's time. The velocity decays to zero, as in `inference.motion.DecayingVelocity`.

The settings are searched one after the other on a geometric grid around the previous value, in a few passes with finer
and finer grids.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

GRID_RATIOS = (2.0, 1.4, 1.1)  # ratio of neighbouring candidates in each pass
CANDIDATES = range(-4, 5)  # powers of that ratio

Array = NDArray[np.float64]
S = TypeVar("S")


@dataclass(frozen=True, eq=False)
class Reports:
    """Reports of ``S`` ships, padded to the largest number ``N`` of reports; metres, seconds, radians."""

    count: NDArray[np.int64]  # (S,)
    times: Array  # (S, N)
    places: Array  # (S, N, 2)
    course: Array  # (S, N), counter-clockwise from the first axis
    speed: Array  # (S, N)


@dataclass(frozen=True)
class ReportNoise:
    """Noise of reports and motion for C candidates, each ``(C,)``: m, s, m/s, rad, m²/s³, s."""

    place: Array
    delay: Array
    speed: Array
    course: Array
    density: Array
    time_constant: Array


def evidence(reports: Reports, noise: ReportNoise, slowest: float) -> Array:
    """Return the log evidence ``(C,)`` of all reports except each ship's first, which initialises its filter.

    Below the speed `slowest`, m/s, the course is not used: the velocity has that standard deviation in all directions.
    """
    candidates, ships = len(noise.place), len(reports.count)
    mean = np.zeros((candidates, ships, 4))
    spread = np.zeros((candidates, ships, 4, 4))
    total = np.zeros(candidates)
    for index in range(reports.times.shape[1]):
        value, covariance = _reported(reports, noise, index, slowest)
        present = reports.count > index
        if index == 0:
            mean[:], spread[:] = value, covariance
            continue
        interval = np.where(present, reports.times[:, index] - reports.times[:, index - 1], 0.0)
        moved, predicted = _predict(mean, spread, interval, noise)
        innovation, innovation_covariance = value - moved, predicted + covariance
        solved = np.linalg.solve(innovation_covariance, innovation[..., None])[..., 0]
        _, determinant = np.linalg.slogdet(innovation_covariance)
        log_density = -0.5 * ((innovation * solved).sum(-1) + determinant + 4 * np.log(2 * np.pi))
        total += np.where(present, log_density, 0.0).sum(1)
        gain = np.linalg.solve(innovation_covariance, predicted).swapaxes(-1, -2)
        mean = moved + (gain @ innovation[..., None])[..., 0]
        spread = predicted - gain @ predicted
        spread = (spread + spread.swapaxes(-1, -2)) / 2
    return total


def _reported(reports: Reports, noise: ReportNoise, index: int, slowest: float) -> tuple[Array, Array]:
    """Return position and velocity ``(S, 4)``, and the covariance of their noise ``(C, S, 4, 4)``."""
    course, speed = reports.course[:, index], reports.speed[:, index]
    direction = np.stack([np.cos(course), np.sin(course)], -1)
    value = np.concatenate([reports.places[:, index], speed[:, None] * direction], -1)
    along = np.broadcast_to(noise.speed[:, None] ** 2, (len(noise.speed), len(speed)))
    across = along + (speed * noise.course[:, None]) ** 2
    still = speed < slowest
    along, across = (np.where(still, along + slowest**2, part) for part in (along, across))
    covariance = np.zeros((*along.shape, 4, 4))
    outer = direction[:, :, None] * direction[:, None, :]
    late = (speed * noise.delay[:, None]) ** 2
    covariance[..., :2, :2] = (
        noise.place[:, None, None, None] ** 2 * np.eye(2) + late[..., None, None] * outer
    )
    covariance[..., 2:, 2:] = across[..., None, None] * np.eye(2) + (along - across)[..., None, None] * outer
    return value, covariance


def _predict(mean: Array, spread: Array, interval: Array, noise: ReportNoise) -> tuple[Array, Array]:
    """Predict mean and covariance with a decaying velocity over `interval` ``(S,)``, s."""
    time_constant, one = noise.time_constant[:, None], np.eye(2)
    share = interval / time_constant
    decay, lost = np.exp(-share), -np.expm1(-share)
    matrix = np.zeros((*share.shape, 4, 4))
    matrix[..., :2, :2] = one
    matrix[..., :2, 2:] = (time_constant * lost)[..., None, None] * one
    matrix[..., 2:, 2:] = decay[..., None, None] * one
    q = noise.density[:, None]
    both = -np.expm1(-2 * share) / 2
    added = np.zeros_like(matrix)
    added[..., :2, :2] = (q * time_constant**3 * (share - 2 * lost + both))[..., None, None] * one
    added[..., :2, 2:] = added[..., 2:, :2] = (q * time_constant**2 / 2 * lost**2)[..., None, None] * one
    added[..., 2:, 2:] = (q * time_constant * both)[..., None, None] * one
    moved = (matrix @ mean[..., None])[..., 0]
    return moved, matrix @ spread @ matrix.swapaxes(-1, -2) + added


def likeliest(reports: Reports, start: S, units: Sequence[float], slowest: float) -> S:
    """Return the settings with the largest evidence, starting from `start`.

    `start` is a dataclass whose first fields are those of `ReportNoise` in the same order; `units` are factors that
    convert them to the units of `ReportNoise`.
    """
    names = [field.name for field in dataclasses.fields(start)][: len(units)]  # type: ignore[arg-type]
    best = np.array([getattr(start, name) for name in names])
    for ratio in GRID_RATIOS:
        for number in range(len(names)):
            tried = np.tile(best, (len(CANDIDATES), 1))
            tried[:, number] *= np.power(ratio, CANDIDATES)
            found = evidence(reports, ReportNoise(*(tried * units).T), slowest)
            best = tried[int(np.argmax(found))]
    return dataclasses.replace(start, **dict(zip(names, best.tolist(), strict=True)))  # type: ignore[type-var]
