"""Sensors at another place: a camera on a vehicle, a satellite, a landmark that moves.

A sensor measures a function of ``u = T Rᵀ (x[axes] − p)``, where p is its position, R its orientation and T a constant
matrix. Sensors without an orientation have ``R = 1``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from beliefstream.inference.likelihood.noise import Array


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
