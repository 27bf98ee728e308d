"""Base class of turning motions, each of which defines a `moments.Path`.

The predicted mean and covariance of every component are exact, for any spread of heading and turn rate. One Gaussian
does not describe a curved prediction, such as an arc or a ring, so `inference.tracking.prediction` splits
components first. Angles in the state are not wrapped. Inputs and their errors are constant over the interval; they
follow the coordinates of the state in all vectors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion.moments import RESOLUTIONS, Path, Resolution
from beliefstream.inference.motion.protocol import Control, Motion, checked, coloured

MOST_PIECES = 16  # largest number of pieces of an interval with a turn too large for the finest resolution
LARGEST_CHUNK = 1 << 18  # largest number of covariance entries in one chunk, so that it fits the cache


class Turning(Motion):
    """Predicts and samples along the path `_path`; its vector ``a`` has state, inputs and noise coefficients."""

    positions: tuple[int, int]  # indices of x and y, which have white noise of `position_density`
    position_density: float
    NOISES: ClassVar[tuple[str, ...]]  # along the path; the field NAME_density is the density of each

    @property
    @abstractmethod
    def _rate(self) -> int:
        """Index of the turn rate in ``a``."""

    @property
    @abstractmethod
    def _order(self) -> tuple[int, ...]:
        """Indices of state and inputs in the order of the path's outcome."""

    @abstractmethod
    def _path(self, interval: Tensor, resolution: Resolution) -> Path:
        """Return the path over `interval` ``(B,)``, seconds."""

    def predict(
        self, mixture: GaussianMixture, interval: Tensor, control: Control | None = None
    ) -> GaussianMixture:
        """See `Motion.predict`; mean and covariance of every component are exact.

        An interval with a turn too large for the finest resolution is divided into up to `MOST_PIECES` pieces. Each
        component is replaced by a Gaussian after each piece, which is the only approximation.
        """
        rate, kept = self._rate, self.without_inputs(mixture)
        means, covariances = self.with_inputs(mixture, control)

        def speed() -> Tensor:
            fastest = means[..., rate].abs() + 3 * covariances[..., rate, rate].clamp_min(0).sqrt()
            return torch.where(mixture.present, fastest, 0.0).amax(1)

        for rows, piece, resolution in self._pieces(interval.double(), speed, means.shape[1]):
            means[rows], covariances[rows] = self._move(means[rows], covariances[rows], piece, resolution)
        covariances = covariances[..., kept, :][..., kept].contiguous()
        if self.position_density:
            for axis in self.positions:
                covariances[..., axis, axis] += self.position_density * interval.double()[:, None]
        return GaussianMixture(mixture.log_weights, means[..., kept].contiguous(), covariances)

    def sample(
        self,
        states: Tensor,
        interval: Tensor,
        control: Control | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See `Motion.sample`."""
        batch, particles, size = states.shape
        held = checked(control, batch, self.inputs)
        inputs = states.new_zeros(batch, particles, self.inputs)
        if held is not None:
            inputs = held.value[:, None] + coloured(held.covariance, particles, generator)
        points = torch.cat([states.double(), inputs], -1)
        noisy = partial(self._draw, generator=generator)
        result = self._along(points, interval.double(), noisy)[..., :size].contiguous()
        if self.position_density:
            deviation = (self.position_density * interval.double()).sqrt()[:, None, None]
            result[..., list(self.positions)] += deviation * _white(states, 2, generator)
        return result

    def follow(self, points: Tensor, interval: Tensor) -> Tensor:
        """Return the end ``(B, P, D)`` of the path without noise from state and inputs `points` ``(B, P, D + C)``."""
        moved = self._along(points.double(), interval.double(), self._quiet)
        return moved[..., : self.dimension].contiguous()

    def _along(self, points: Tensor, interval: Tensor, move: Callable[..., Tensor]) -> Tensor:
        """Move `points` ``(B, P, D + C)`` over an interval, in pieces."""
        points = points.clone()
        for rows, piece, resolution in self._pieces(
            interval, lambda: points[..., self._rate].abs().amax(1), 1
        ):
            points[rows] = move(points[rows], piece, resolution)
        return points

    def _pieces(
        self, remaining: Tensor, speed: Callable[[], Tensor], components: int
    ) -> Iterator[tuple[Tensor, Tensor, Resolution]]:
        """Divide the remaining time ``(B,)``; yields rows that move alike, their next piece, and its resolution.

        `speed` gives the turn rate ``(B,)`` before each piece.
        """
        for pieces_left in range(MOST_PIECES, 0, -1):
            fastest = speed()
            piece = self._piece(remaining, fastest, pieces_left)
            for resolution, rows in self._by_resolution(piece, fastest, components):
                yield rows, piece[rows], resolution
            remaining = remaining - piece
            if not bool((remaining > 0).any()):
                return

    def with_inputs(self, mixture: GaussianMixture, control: Control | None) -> tuple[Tensor, Tensor]:
        """Return mean ``(B, K, A)`` and covariance ``(B, K, A, A)`` of state, inputs, and any other coordinates."""
        held = checked(control, mixture.batch, self.inputs)
        shape = (*mixture.log_weights.shape, mixture.dimension + self.inputs)
        mean = torch.zeros(shape, dtype=torch.float64, device=mixture.means.device)
        covariance = torch.zeros(*shape, shape[-1], dtype=torch.float64, device=mean.device)
        kept, inputs = self.without_inputs(mixture), slice(self.dimension, self.dimension + self.inputs)
        mean[..., kept] = mixture.means.double()
        covariance[..., kept[:, None], kept] = mixture.covariances.double()
        if held is not None:
            mean[..., inputs], covariance[..., inputs, inputs] = held.value[:, None], held.covariance[:, None]
        return mean, covariance

    def without_inputs(self, mixture: GaussianMixture) -> Tensor:
        """Indices of the mixture's coordinates among those of `with_inputs`."""
        places = torch.arange(mixture.dimension, device=mixture.means.device)
        return places + self.inputs * (places >= self.dimension)

    def _move(
        self, mean: Tensor, covariance: Tensor, interval: Tensor, resolution: Resolution
    ) -> tuple[Tensor, Tensor]:
        noise, size = self._deviations(resolution, mean.device).square(), self.dimension + self.inputs
        path = self._path(interval, resolution).beside(size, mean.shape[-1] - size)
        moved, spread = path.moments(mean, covariance, noise)
        back = torch.cat([self._back(interval), torch.arange(size, mean.shape[-1], device=mean.device)])
        return moved[..., back], spread[..., back, :][..., back]

    def _quiet(self, points: Tensor, interval: Tensor, resolution: Resolution) -> Tensor:
        """Move points without noise; the noise coefficients follow state and inputs, and are zero."""
        whole = torch.nn.functional.pad(points, (0, self._size(resolution) - points.shape[-1]))
        return self._path(interval, resolution).evaluate(whole)[..., self._back(interval)]

    def _draw(
        self, points: Tensor, interval: Tensor, resolution: Resolution, generator: torch.Generator | None
    ) -> Tensor:
        deviations = self._deviations(resolution, points.device)
        whole = torch.cat([points, _white(points, len(deviations), generator) * deviations], -1)
        return self._path(interval, resolution).evaluate(whole)[..., self._back(interval)]

    def _piece(self, remaining: Tensor, speed: Tensor, pieces_left: int) -> Tensor:
        """Return the length of the next piece, ``(B,)``: the remaining time, limited by the finest resolution."""
        if pieces_left == 1:
            return remaining
        limit, (white, wandering) = RESOLUTIONS[-1], self._heading_densities()
        longest = torch.minimum(remaining, limit.turn / speed.clamp_min(1e-300))
        if white:
            longest = longest.clamp_max(0.5 * limit.wander / white)
        if wandering:
            longest = longest.clamp_max((15 * limit.wander / wandering) ** (1 / 3))
        return longest

    def _by_resolution(
        self, interval: Tensor, speed: Tensor, components: int
    ) -> Iterator[tuple[Resolution, Tensor]]:
        """Group rows by the resolution that each needs, so that the result of a row does not depend on others."""
        white, wandering = self._heading_densities()
        turn, wander = speed * interval, white * interval + wandering * interval**3 / 30
        turns = turn.new_tensor([each.turn for each in RESOLUTIONS[:-1]])
        wanders = turn.new_tensor([each.wander for each in RESOLUTIONS[:-1]])
        needed = torch.maximum(torch.bucketize(turn, turns), torch.bucketize(wander, wanders))
        needed = torch.where(interval > 0, needed, -1)
        for place, resolution in enumerate(RESOLUTIONS):
            rows = (needed == place).nonzero()[:, 0]
            most = max(1, LARGEST_CHUNK // (components * (3 * resolution.nodes + 8) ** 2))
            yield from ((resolution, some) for some in torch.split(rows, most) if len(some))

    def _heading_densities(self) -> tuple[float, float]:
        """Spectral densities of the noise of heading and turn rate."""
        active = self._active()
        return active.get("heading", 0.0), active.get("turn_rate", 0.0)

    def _active(self) -> dict[str, float]:
        densities = {name: float(getattr(self, f"{name}_density")) for name in self.NOISES}
        return {name: density for name, density in densities.items() if density > 0}

    def _deviations(self, resolution: Resolution, device: torch.device) -> Tensor:
        """Return the standard deviations of the noise coefficients per unit of time."""
        densities = torch.tensor(list(self._active().values()), dtype=torch.float64, device=device)
        return densities.sqrt().repeat_interleave(resolution.nodes)

    def _size(self, resolution: Resolution) -> int:
        """Return the length of ``a``."""
        return self.dimension + self.inputs + resolution.nodes * len(self._active())

    def _noise(self, name: str, resolution: Resolution) -> slice:
        """Return the slice of ``a`` with the coefficients of a noise; empty if the noise is zero."""
        names = list(self._active())
        if name not in names:
            return slice(0, 0)
        start = self.dimension + self.inputs + resolution.nodes * names.index(name)
        return slice(start, start + resolution.nodes)

    def _held(self, like: Tensor) -> Tensor:
        """Return the rows ``(B, C, A)`` that copy the inputs."""
        rows = like.new_zeros(len(like), self.inputs, like.shape[-1])
        rows.diagonal(self.dimension, dim1=-2, dim2=-1)[...] = 1.0
        return rows

    def _back(self, like: Tensor) -> Tensor:
        return torch.argsort(torch.tensor(self._order, device=like.device))


def _white(states: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    shape = (*states.shape[:2], size)
    return torch.randn(shape, dtype=torch.float64, device=states.device, generator=generator)


def put(rows: Tensor, place: slice, values: Tensor) -> None:
    """Set the columns `place` of a noise, if it has any."""
    if place.stop:
        rows[..., place] = values
