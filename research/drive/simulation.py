"""Simulates a car among buildings whose receiver hears 14 to 16 satellites once a second, a third of them reflected.

It shares no code with the service. The state is east, north and up of an origin in metres, their velocities in m/s, and
the receiver's clock and its drift in metres and m/s. It moves as the filters assume. The light's path is computed
where the axes do not turn.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LIGHT, TURN = 299_792_458.0, 7.2921151467e-5  # m/s; rad/s of the Earth
LATITUDE, LONGITUDE, ALTITUDE = 50.11, 8.68, 110.0
RADIUS, FLATTENING = 6_378_137.0, 1 / 298.257223563  # WGS 84
ORBIT, INCLINATION, PULL = 26.56e6, math.radians(55), 3.986004418e14  # m; m³/s²
LOWEST, HEARD, SATELLITES = math.radians(10), 0.94, 16  # elevation; share of reports that arrive
NAMES = ("x", "y", "z", "vx", "vy", "vz", "clock", "drift")
SPREAD = np.array([30.0, 30.0, 10.0, 10.0, 10.0, 0.5, 100.0, 3.0])  # of the prior, whose mean is zero
DRIFT = np.zeros((8, 8))
DRIFT[[0, 1, 2, 6], [3, 4, 5, 7]] = 1.0
DIFFUSION = np.diag([0, 0, 0, 1.0, 1.0, 0.05, 0.05, 0.01])  # squared units of the state, per second
# of the noise: weight, bias in metres and ratio to the deviation of a direct, a reflected and a far reflected signal
PARTS = np.array([[0.67, 0.0, 1.0], [0.22, 6.0, 3.0], [0.11, 25.0, 10.0]])
BASE, BY_ELEVATION = 0.7, 0.5  # m: σ² = BASE² + (BY_ELEVATION / sin(elevation))²


class Epoch(NamedTuple):
    """Reports of one second."""

    satellites: Array  # (N, 3), Earth-centred, when they sent
    values: Array  # (N,), pseudoranges in metres
    deviations: Array  # (N,), of direct signals


class Drive(NamedTuple):
    """True states ``(T, 8)`` at the seconds 0, 1, 2 …, and what was reported."""

    states: Array
    epochs: list[Epoch]


def origin() -> tuple[Array, Array]:
    """The origin, Earth-centred, and the unit vectors east, north and up there, one a row."""
    p, l = math.radians(LATITUDE), math.radians(LONGITUDE)  # noqa: E741
    squared = FLATTENING * (2 - FLATTENING)
    across = RADIUS / math.sqrt(1 - squared * math.sin(p) ** 2)
    up = np.array([math.cos(p) * math.cos(l), math.cos(p) * math.sin(l), math.sin(p)])
    east = np.array([-math.sin(l), math.cos(l), 0.0])
    place = up * across + ALTITUDE * up - [0.0, 0.0, squared * across * math.sin(p)]
    return place, np.stack([east, np.cross(up, east), up])


def turned(place: Array, angle: float) -> Array:
    """A place in axes that have turned by an angle about the Earth's."""
    c, s = math.cos(angle), math.sin(angle)
    rotated: Array = place @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return rotated


def path(receiver: Array, satellite: Array) -> float:
    """Length of the light's path; the Earth turns while it is under way."""
    length = 0.0
    for _ in range(6):
        length = float(np.linalg.norm(turned(satellite, TURN * length / LIGHT) - receiver))
    return length


def step() -> tuple[Array, Array]:
    """Transition and covariance of the state's motion over a second; exact, as the drift's square is zero."""
    noise = DIFFUSION + (DRIFT @ DIFFUSION + DIFFUSION @ DRIFT.T) / 2 + DRIFT @ DIFFUSION @ DRIFT.T / 3
    return np.eye(8) + DRIFT, noise


def sky(numbers: np.random.Generator) -> list[tuple[float, float]]:
    """Phase and node of orbits whose satellites are above `LOWEST` at the start."""
    place, axes = origin()
    found: list[tuple[float, float]] = []
    while len(found) < SATELLITES:
        orbit = tuple(numbers.uniform(0, 2 * math.pi, 2))
        away = axes @ (in_orbit(orbit, 0.0) - place)
        if away[2] > math.sin(LOWEST) * np.linalg.norm(away):
            found.append(orbit)
    return found


def in_orbit(orbit: tuple[float, float], time: float) -> Array:
    """Place on a circular orbit, Earth-centred and Earth-fixed."""
    angle = orbit[0] + math.sqrt(PULL / ORBIT**3) * time
    along = ORBIT * np.array([math.cos(angle), math.sin(angle) * math.cos(INCLINATION), 0.0])
    place = turned(along, -orbit[1])
    place[2] = ORBIT * math.sin(angle) * math.sin(INCLINATION)
    return turned(place, TURN * time)


def drive(seed: int, seconds: int, held: float = 1.0) -> Drive:
    """Draw a drive; whether a satellite is reflected is drawn again after `held` seconds on average."""
    numbers = np.random.default_rng(seed)
    orbits, (place, axes), (transition, noise) = sky(numbers), origin(), step()
    root = np.linalg.cholesky(noise)
    state = SPREAD * numbers.normal(size=8)
    parts = numbers.choice(3, SATELLITES, p=PARTS[:, 0])
    states, epochs = [], []
    for second in range(seconds):
        if second:
            state = transition @ state + root @ numbers.normal(size=8)
            again = numbers.random(SATELLITES) < 1 / held
            parts = np.where(again, numbers.choice(3, SATELLITES, p=PARTS[:, 0]), parts)
        receiver, heard = place + state[:3] @ axes, numbers.random(SATELLITES) < HEARD
        satellites = np.array([in_orbit(orbit, second) for orbit in orbits])
        away = (satellites - place) @ axes.T
        deviations = np.hypot(BASE, BY_ELEVATION * np.linalg.norm(away, axis=1) / away[:, 2])
        _, biases, ratios = PARTS[parts].T
        errors = biases + ratios * deviations * numbers.normal(size=SATELLITES)
        values = np.array([path(receiver, each) for each in satellites]) + state[6] + errors
        states.append(state)
        epochs.append(Epoch(satellites[heard], values[heard], deviations[heard]))
    return Drive(np.array(states), epochs)
