"""Sensors at another place: a camera on a vehicle, a satellite, a landmark that moves.

A sensor measures a function of ``u = T Rᵀ (x[axes] − p)``, where p is its position, R its orientation and T a constant
matrix. Sensors without an orientation have ``R = 1``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from beliefstream.inference.likelihood.noise import Array

if TYPE_CHECKING:
    from beliefstream.inference.sensors.readings import Sensor


class WrongLength(ValueError):
    """A position or an orientation has another number of numbers than the sensor's."""


@dataclass(frozen=True, eq=False)
class Placement:
    """How the position and the orientation of a sensor enter its measurement.

    Attributes:
        position: the position p, ``(n,)``; None if each reading has one of its own.
        transform: the matrix T, ``(rows, n)``.
        axes: rows that select the coordinates of the position, ``(n, D)``; None for a sensor without an orientation.
        orientation: angles of R, ``(1,)`` in the plane or ``(3,)`` in space; None for a sensor without one.
    """

    position: Array | None
    transform: Array
    axes: Array | None = None
    orientation: Array | None = None

    @property
    def length(self) -> int:
        """Number of coordinates of the position."""
        return int(self.transform.shape[1])


def rotation(angles: Array) -> Array:
    """Return the matrix that turns the axes of a sensor into those of the state.

    Args:
        angles: in radians: ``(1,)``, counter-clockwise, for ``(2, 2)``; or yaw, pitch and roll ``(3,)`` for
            ``(3, 3)``, which turn right-handed about the sensor's third, then second, then first axis.
    """
    (c, s) = np.cos(angles), np.sin(angles)
    if len(angles) == 1:
        return np.array([[c[0], -s[0]], [s[0], c[0]]])
    yaw = np.array([[c[0], -s[0], 0], [s[0], c[0], 0], [0, 0, 1]])
    pitch = np.array([[c[1], 0, s[1]], [0, 1, 0], [-s[1], 0, c[1]]])
    roll = np.array([[1, 0, 0], [0, c[2], -s[2]], [0, s[2], c[2]]])
    turned: Array = yaw @ pitch @ roll
    return turned


def placed(sensor: Sensor, position: ArrayLike | None = None, orientation: ArrayLike | None = None) -> Sensor:
    """Return the sensor at another position, or with another orientation; None leaves either as it is.

    The parts of a composite are all at its position. Those without an orientation, such as a range, keep none.

    Raises:
        WrongLength: the sensor has a position or an orientation of another length.
        ValueError: it has none, or a number is not finite.
    """
    if position is not None:
        position = np.atleast_1d(np.asarray(position, float))
    if orientation is not None:
        orientation = np.atleast_1d(np.asarray(orientation, float))
        lengths = {len(each.orientation) for each in _placements(sensor) if each.orientation is not None}
        if not lengths:
            raise ValueError(f"orientation: this sensor has none, got {orientation.tolist()}")
        _check("orientation", orientation, max(lengths))
    return _placed(sensor, position, orientation)


def needs_position(sensor: Sensor) -> bool:
    """Whether each reading of the sensor has a position of its own."""
    return any(each.position is None for each in _placements(sensor))


def without_position(sensor: Sensor) -> Sensor:
    """Return the sensor as one whose readings each have a position of their own."""
    if sensor.parts:
        return replace(sensor, parts=tuple(map(without_position, sensor.parts)))
    if sensor.placement is None:
        raise ValueError("position: this sensor has none")
    return replace(sensor, placement=replace(sensor.placement, position=None))


def _placements(sensor: Sensor) -> list[Placement]:
    return [each.placement for each in (sensor, *sensor.parts) if each.placement is not None]


def _placed(sensor: Sensor, position: Array | None, orientation: Array | None) -> Sensor:
    if sensor.parts:
        return replace(sensor, parts=tuple(_placed(part, position, orientation) for part in sensor.parts))
    placement = sensor.placement
    if placement is None:
        raise ValueError(
            "position: this sensor has none" + ("" if position is None else f", got {position.tolist()}")
        )
    if position is not None:
        _check("position", position, placement.length)
        placement = replace(placement, position=position)
    where = np.zeros(placement.length) if placement.position is None else placement.position
    axes, angles = placement.axes, placement.orientation if orientation is None else orientation
    if axes is None or angles is None:
        return replace(sensor, origin=placement.transform @ where, placement=placement)
    turned = placement.transform @ rotation(angles).T
    placement = replace(placement, orientation=angles)
    return replace(sensor, matrix=turned @ axes, origin=turned @ where, placement=placement)


def _check(name: str, numbers: Array, length: int) -> None:
    if numbers.shape != (length,):
        raise WrongLength(
            f"{name}: expected {length} number{'s' * (length > 1)}, got {len(numbers)} ({numbers.tolist()})"
        )
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name}: expected finite numbers, got {numbers.tolist()}")
