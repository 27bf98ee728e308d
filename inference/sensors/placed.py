"""Sensors at another place than their definition says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from beliefstream.inference.likelihood.noise import Array
from beliefstream.inference.sensors.placement import Placement, WrongLength, rotation
from beliefstream.inference.sensors.readings import Sensor


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
