"""What motions that turn have in common: each is a `moments.Path`.

Every component of a mixture gets the exact mean and covariance of where it may have gone, for any spread of its heading
and turn rate; the shape itself (a banana, a ring) is kept only as far as the components say it, which is why
`inference.moving` divides them first. Angles in the state are not wrapped. Inputs not in the state are held, their
errors with them: they are carried behind the coordinates of the state until the interval is over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from inference.mixture import GaussianMixture
from inference.motion.moments import RESOLUTIONS, Path, Resolution
from inference.motion.protocol import Control, checked, coloured

MOST_PIECES = 16  # of an interval in which a path turns further than the finest resolution is good for
LARGEST_CHUNK = 1 << 18  # numbers in the largest matrix of covariances taken at once: they stay in the cache


class Turning(ABC):
    """Predicts and samples by the path that `_path` gives; ``a`` is state, inputs, coefficients of the noises."""

    NOISES: ClassVar[tuple[str, ...]]  # names of the noises along the path; a field NAME_density gives each

    @property
    @abstractmethod
    def dimension(self) -> int: ...

    @property
    @abstractmethod
    def inputs(self) -> int: ...

    @property
    @abstractmethod
    def _rate(self) -> int:
        """Where the turn rate stands in ``a``."""

    @property
    @abstractmethod
    def _order(self) -> tuple[int, ...]:
        """The coordinates of state and inputs in the order in which the path gives them."""

    @property
    def _diffusion(self) -> tuple[tuple[int, float], ...]:
        """Coordinates with white noise of their own, beside the path, and its spectral density."""
        return ()

    @abstractmethod
    def _path(self, interval: Tensor, resolution: Resolution) -> Path:
        """The path over `interval` ``(B,)``."""

    def predict(
        self, mixture: GaussianMixture, interval: Tensor, control: Control | None = None
    ) -> GaussianMixture:
        """See `Motion.predict`; exact mean and covariance of every component.

        A path that turns further than the finest resolution allows goes in up to `MOST_PIECES` pieces, Gaussian again
        after each; only that is an approximation.
        """
        remaining, size = interval.double(), self.dimension
        means, covariances = self.with_inputs(mixture, control)
        rate = self._rate
        for pieces_left in range(MOST_PIECES, 0, -1):
            fastest = means[..., rate].abs() + 3 * covariances[..., rate, rate].clamp_min(0).sqrt()
            speed = torch.where(mixture.present, fastest, 0.0).amax(1)
            piece = self._piece(remaining, speed, pieces_left)
            for resolution, rows in self._by_resolution(piece, speed, means.shape[1]):
                means[rows], covariances[rows] = self._move(
                    means[rows], covariances[rows], piece[rows], resolution
                )
            remaining = remaining - piece
            if not bool((remaining > 0).any()):
                break
        covariances = covariances[..., :size, :size].contiguous()
        for axis, density in self._diffusion:
            covariances[..., axis, axis] += density * interval.double()[:, None]
        return GaussianMixture(mixture.log_weights, means[..., :size].contiguous(), covariances)

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
        for axis, density in self._diffusion:
            deviation = (density * interval.double()).sqrt()[:, None]
            result[..., axis] += deviation * _white(states, 1, generator)[..., 0]
        return result

    def follow(self, points: Tensor, interval: Tensor) -> Tensor:
        """Where a path without noise leads, ``(B, P, D)``, from `points` of state and inputs ``(B, P, D + C)``."""
        moved = self._along(points.double(), interval.double(), self._quiet)
        return moved[..., : self.dimension].contiguous()

    def _along(self, points: Tensor, remaining: Tensor, move: Callable[..., Tensor]) -> Tensor:
        """All of `points` ``(B, P, D + C)`` to the end of the time that remains, piece by piece."""
        points = points.clone()
        for pieces_left in range(MOST_PIECES, 0, -1):
            speed = points[..., self._rate].abs().amax(1)
            piece = self._piece(remaining, speed, pieces_left)
            for resolution, rows in self._by_resolution(piece, speed, 1):
                points[rows] = move(points[rows], piece[rows], resolution)
            remaining = remaining - piece
            if not bool((remaining > 0).any()):
                break
        return points

    def with_inputs(self, mixture: GaussianMixture, control: Control | None) -> tuple[Tensor, Tensor]:
        """Mean ``(B, K, D + C)`` and covariance ``(B, K, D + C, D + C)`` of state and inputs."""
        held = checked(control, mixture.batch, self.inputs)
        pad, size, more = torch.nn.functional.pad, self.dimension, self.inputs
        mean = pad(mixture.means.double(), (0, more))  # a copy, even where there is nothing to add
        covariance = pad(mixture.covariances.double(), (0, more, 0, more))
        if held is not None:
            mean[..., size:], covariance[..., size:, size:] = held.value[:, None], held.covariance[:, None]
        return mean, covariance

    def _move(
        self, mean: Tensor, covariance: Tensor, interval: Tensor, resolution: Resolution
    ) -> tuple[Tensor, Tensor]:
        noise = self._deviations(resolution, mean.device).square()
        moved, spread = self._path(interval, resolution).moments(mean, covariance, noise)
        back = self._back(interval)
        return moved[..., back], spread[..., back, :][..., back]

    def _quiet(self, points: Tensor, interval: Tensor, resolution: Resolution) -> Tensor:
        """Without noise, whose coefficients stand behind state and inputs."""
        whole = torch.nn.functional.pad(points, (0, self._size(resolution) - points.shape[-1]))
        return self._path(interval, resolution).evaluate(whole)[..., self._back(interval)]

    def _draw(
        self, points: Tensor, interval: Tensor, resolution: Resolution, generator: torch.Generator | None
    ) -> Tensor:
        deviations = self._deviations(resolution, points.device)
        whole = torch.cat([points, _white(points, len(deviations), generator) * deviations], -1)
        return self._path(interval, resolution).evaluate(whole)[..., self._back(interval)]

    def _piece(self, remaining: Tensor, speed: Tensor, pieces_left: int) -> Tensor:
        """How much of the remaining time to take at once, ``(B,)``: what the finest resolution is good for."""
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
        """Rows that move, by the resolution each needs, so that a row's result does not depend on its neighbours."""
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
        """Spectral densities of the heading's and of the turn rate's noise."""
        active = self._active()
        return active.get("heading", 0.0), active.get("turn_rate", 0.0)

    def _active(self) -> dict[str, float]:
        densities = {name: float(getattr(self, f"{name}_density")) for name in self.NOISES}
        return {name: density for name, density in densities.items() if density > 0}

    def _deviations(self, resolution: Resolution, device: torch.device) -> Tensor:
        """Standard deviations of the noises' coefficients over a unit of time."""
        densities = torch.tensor(list(self._active().values()), dtype=torch.float64, device=device)
        return densities.sqrt().repeat_interleave(resolution.nodes)

    def _size(self, resolution: Resolution) -> int:
        """Numbers in ``a``."""
        return self.dimension + self.inputs + resolution.nodes * len(self._active())

    def _noise(self, name: str, resolution: Resolution) -> slice:
        """Where the coefficients of a noise stand in ``a``: nowhere if it is zero."""
        names = list(self._active())
        if name not in names:
            return slice(0, 0)
        start = self.dimension + self.inputs + resolution.nodes * names.index(name)
        return slice(start, start + resolution.nodes)

    def _held(self, like: Tensor) -> Tensor:
        """Rows ``(B, C, A)`` that keep the inputs."""
        rows = like.new_zeros(len(like), self.inputs, like.shape[-1])
        rows.diagonal(self.dimension, dim1=-2, dim2=-1)[...] = 1.0
        return rows

    def _back(self, like: Tensor) -> Tensor:
        return torch.argsort(torch.tensor(self._order, device=like.device))


def _white(states: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    shape = (*states.shape[:2], size)
    return torch.randn(shape, dtype=torch.float64, device=states.device, generator=generator)


def put(rows: Tensor, place: slice, values: Tensor) -> None:
    """Sets the columns of a noise, where it has any."""
    if place.stop:
        rows[..., place] = values
