"""Turning motions: the unicycle (speed and turn rate) and the coordinated turn (velocity and turn rate)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from beliefstream.inference.motion.kinematic import non_negative
from beliefstream.inference.motion.moments import Path, Resolution, nodes
from beliefstream.inference.motion.turning import Turning, put


def _check(motion: Turning, **axes: int | None) -> None:
    """Check indices and densities, by the names of the coordinates; None is an input."""
    given = [axis for axis in axes.values() if axis is not None]
    if sorted(given) != list(range(motion.dimension)):
        raise ValueError(f"{', '.join(axes)}: expected every coordinate once, got {tuple(axes.values())}")
    densities = {name: value for name, value in vars(motion).items() if name.endswith("_density")}
    for name, density in densities.items():
        non_negative(name, density)
    for name, axis in axes.items():
        if axis is None and (density := densities[f"{name}_density"]):
            raise ValueError(
                f"{name}_density: expected 0, because {name} is an input with the noise of the control, got {density}"
            )


@dataclass(frozen=True)
class Unicycle(Turning):
    """``dx = v cos h dt``, ``dy = v sin h dt``, ``dh = ω dt``, each with white noise of the given spectral density.

    Speed v (m/s) and turn rate ω (rad/s) are coordinates of the state if they have an index; they then follow a
    Brownian motion. Otherwise they are inputs, in this order, as odometry reports them.

    Attributes:
        positions: indices of x and y, m.
        heading: index of h, rad, from the x axis towards y.
        speed: index of v, m/s; None if it is an input.
        turn_rate: index of ω, rad/s; None if it is an input.
        position_density: spectral density of the noise along each axis, m²/s.
        heading_density: spectral density of the noise of the heading, rad²/s.
        speed_density: spectral density of the noise of the speed, m²/s³.
        turn_rate_density: spectral density of the noise of the turn rate, rad²/s³.

    Raises:
        ValueError: the indices do not name every coordinate once, a density is negative or not finite, or an input has
            a density, because its noise is that of the control.
    """

    NOISES: ClassVar[tuple[str, ...]] = ("heading", "speed", "turn_rate")
    positions: tuple[int, int] = (0, 1)
    heading: int = 2
    speed: int | None = None
    turn_rate: int | None = None
    position_density: float = 0.0
    heading_density: float = 0.0
    speed_density: float = 0.0
    turn_rate_density: float = 0.0

    def __post_init__(self) -> None:
        x, y = self.positions
        _check(self, x=x, y=y, heading=self.heading, speed=self.speed, turn_rate=self.turn_rate)

    @property
    def dimension(self) -> int:
        return 5 - self.inputs

    @property
    def inputs(self) -> int:
        return (self.speed is None) + (self.turn_rate is None)

    @property
    def _rate(self) -> int:
        # the inputs follow the state; the turn rate is the last
        return self.dimension + self.inputs - 1 if self.turn_rate is None else self.turn_rate

    @property
    def _order(self) -> tuple[int, ...]:
        rest = (axis for axis in (self.speed, self.turn_rate) if axis is not None)
        return (*self.positions, self.heading, *rest, *range(self.dimension, self.dimension + self.inputs))

    def _path(self, interval: Tensor, resolution: Resolution) -> Path:
        at, root = nodes(resolution.nodes), interval.sqrt()[:, None, None]
        turn = interval.new_zeros(len(interval), resolution.nodes + 1, self._size(resolution))
        turn[..., self.heading] = 1.0
        turn[..., self._rate] = interval[:, None] * at.fractions
        put(turn, self._noise("heading", resolution), root * at.brownian)
        put(turn, self._noise("turn_rate", resolution), interval[:, None, None] * root * at.integrated)
        velocity = torch.zeros_like(turn)
        velocity[..., self.dimension if self.speed is None else self.speed] = 1.0
        put(velocity, self._noise("speed", resolution), root * at.brownian)
        ends = [turn[:, -1:]]
        if self.speed is not None:
            ends.append(velocity[:, -1:])
        if self.turn_rate is not None:
            rate = torch.zeros_like(turn[:, -1:])
            rate[..., self.turn_rate] = 1.0
            put(rate, self._noise("turn_rate", resolution), root * at.brownian[-1])
            ends.append(rate)
        ends.append(self._held(turn))
        offset = torch.zeros_like(turn[:, -1:], dtype=torch.complex128)
        offset.real[..., self.positions[0]] = offset.imag[..., self.positions[1]] = 1.0
        weights = (interval[:, None] * at.weights)[:, None]
        inner = slice(0, resolution.nodes)
        complex_velocity = velocity[:, inner].to(offset.dtype)
        return Path(turn[:, inner], complex_velocity, weights[..., inner], offset, torch.cat(ends, 1))


@dataclass(frozen=True)
class CoordinatedTurn(Turning):
    """Motion at constant speed along an arc, with white noise acceleration and a random walk of the turn rate.

    ``dp = v dt + dW_p``, ``dv = ω J v dt + dW``, ``dω = dW_ω`` (Bar-Shalom, Li and Kirubarajan, "Estimation with
    Applications to Tracking and Navigation", section 11.7.1, in continuous time).

    Attributes:
        positions: indices of x and y, m.
        velocities: indices of their velocities, m/s.
        turn_rate: index of ω, rad/s, from x towards y; None if it is an input, as a gyroscope reports it.
        acceleration_density: spectral density of the acceleration along each axis, m²/s³.
        turn_rate_density: spectral density of the noise of the turn rate, rad²/s³.
        position_density: spectral density of the noise along each axis, m²/s.

    Raises:
        ValueError: the indices do not name every coordinate once, a density is negative or not finite, or the turn rate
            is an input and has a density.
    """

    NOISES: ClassVar[tuple[str, ...]] = ("along", "across", "turn_rate")
    positions: tuple[int, int] = (0, 1)
    velocities: tuple[int, int] = (2, 3)
    turn_rate: int | None = 4
    acceleration_density: float = 0.0
    turn_rate_density: float = 0.0
    position_density: float = 0.0

    def __post_init__(self) -> None:
        (x, y), (vx, vy) = self.positions, self.velocities
        _check(self, x=x, y=y, vx=vx, vy=vy, turn_rate=self.turn_rate)

    @property
    def dimension(self) -> int:
        return 4 if self.turn_rate is None else 5

    @property
    def inputs(self) -> int:
        return 1 if self.turn_rate is None else 0

    # the acceleration is isotropic, so it has the same distribution in the frame that turns with the velocity
    @property
    def along_density(self) -> float:
        return self.acceleration_density

    @property
    def across_density(self) -> float:
        return self.acceleration_density

    @property
    def _rate(self) -> int:
        return self.dimension if self.turn_rate is None else self.turn_rate

    @property
    def _order(self) -> tuple[int, ...]:
        (x, y), (vx, vy) = self.positions, self.velocities
        return (x, vx, y, vy, self._rate)  # the real parts first

    def _path(self, interval: Tensor, resolution: Resolution) -> Path:
        at, root = nodes(resolution.nodes), interval.sqrt()[:, None, None]
        turn = interval.new_zeros(len(interval), resolution.nodes + 1, self._size(resolution))
        turn[..., self._rate] = interval[:, None] * at.fractions
        put(turn, self._noise("turn_rate", resolution), interval[:, None, None] * root * at.integrated)
        velocity = torch.zeros_like(turn, dtype=torch.complex128)
        velocity.real[..., self.velocities[0]] = velocity.imag[..., self.velocities[1]] = 1.0
        put(velocity, self._noise("along", resolution), (root * at.brownian).to(velocity.dtype))
        put(velocity, self._noise("across", resolution), 1j * root * at.brownian)
        weights = interval.new_zeros(len(interval), 2, resolution.nodes + 1)
        weights[:, 0] = interval[:, None] * at.weights
        weights[:, 1, -1] = 1.0  # the velocity at the end
        offset = torch.zeros_like(velocity[:, :2])
        offset.real[:, 0, self.positions[0]] = offset.imag[:, 0, self.positions[1]] = 1.0
        rate = torch.zeros_like(turn[:, :1])
        rate[..., self._rate] = 1.0
        put(rate, self._noise("turn_rate", resolution), root * at.brownian[-1])
        return Path(turn, velocity, weights, offset, rate)
