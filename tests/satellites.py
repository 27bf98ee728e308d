"""Signals of satellites by the definition: the light's path in a frame that does not turn; in NumPy alone."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LIGHT, TURN = 299_792_458.0, 7.2921151467e-5
RADIUS, FLATTENING = 6_378_137.0, 1 / 298.257223563  # WGS 84


def on_earth(latitude: float, longitude: float, altitude: float) -> Array:
    """Earth-centred coordinates of a place, ``(3,)``, in metres."""
    p, l = math.radians(latitude), math.radians(longitude)  # noqa: E741
    squared = FLATTENING * (2 - FLATTENING)
    across = RADIUS / math.sqrt(1 - squared * math.sin(p) ** 2)
    around, up = (across + altitude) * math.cos(p), (across * (1 - squared) + altitude) * math.sin(p)
    return np.array([around * math.cos(l), around * math.sin(l), up])


def axes(latitude: float, longitude: float) -> Array:
    """Unit vectors east, north and up, one a row."""
    p, l = math.radians(latitude), math.radians(longitude)  # noqa: E741
    return np.array(
        [
            [-math.sin(l), math.cos(l), 0],
            [-math.sin(p) * math.cos(l), -math.sin(p) * math.sin(l), math.cos(p)],
            [math.cos(p) * math.cos(l), math.cos(p) * math.sin(l), math.sin(p)],
        ]
    )


def path(receiver: Array, satellite: Array) -> float:
    """Length of the light's path to a receiver; the axes of the Earth turn while it is under way."""
    length = 0.0
    for _ in range(10):
        angle = TURN * length / LIGHT
        c, s = math.cos(angle), math.sin(angle)
        then = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) @ satellite
        length = float(np.linalg.norm(then - receiver))
    return length


def path_rate(receiver: Array, velocity: Array, satellite: Array, moves: Array, step: float = 0.25) -> float:
    """How fast that length grows, by differences."""
    ahead = path(receiver + step * velocity, satellite + step * moves)
    behind = path(receiver - step * velocity, satellite - step * moves)
    return (ahead - behind) / (2 * step)


def sky(origin: Array, local: Array, count: int, seed: int) -> tuple[Array, Array]:
    """Places and velocities of satellites above ten degrees, ``(count, 3)`` each."""
    generator = np.random.default_rng(seed)
    azimuth = generator.uniform(0, 2 * math.pi, count)
    elevation = np.arcsin(generator.uniform(math.sin(math.radians(10)), 1, count))
    across = np.cos(elevation)
    away = np.stack([across * np.sin(azimuth), across * np.cos(azimuth), np.sin(elevation)], 1)
    places = origin + generator.uniform(2.0e7, 2.5e7, (count, 1)) * away @ local
    return places, generator.normal(scale=2000.0, size=(count, 3))
