"""What motions that turn have in common: each is a `moments.Path`.

Every component of a mixture gets the exact mean and covariance of where it may have gone,
for any spread of its heading and turn rate; the shape itself (a banana, a ring) is kept only as far as the components
say it. Angles in the state are not wrapped. Inputs not in the state are held, their errors with them: they
join the vector ``a`` of the path like coordinates of the state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from inference.mixture import GaussianMixture
from inference.motion.moments import LARGEST_TURN, NODES, TERMS, Path
from inference.motion.protocol import Control, checked, coloured


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
        """The coordinates of the state in the order in which the path gives them."""

    @property
    def _diffusion(self) -> tuple[tuple[int, float], ...]:
        """Coordinates with white noise of their own, beside the path, and its spectral density."""
        return ()

    @abstractmethod
    def _path(self, interval: Tensor, count: int) -> Path:
        """The path at `count` nodes of `interval` ``(B,)``."""

    def predict(
        self, mixture: GaussianMixture, interval: Tensor, control: Control | None = None
    ) -> GaussianMixture:
        """See `Motion.predict`; exact mean and covariance of every component."""
        time, order = interval.double(), self._back(interval)
        mean, covariance = self._augmented(mixture, control)
        rate = self._rate
        fastest = mean[..., rate].abs() + 3 * covariance[..., rate, rate].sqrt()
        turn = torch.where(mixture.present, fastest, 0.0).amax(1) * time
        means, covariances = mixture.means.double().clone(), mixture.covariances.double().clone()
        for count, rows in _by_nodes(turn, time > 0):
            moved, spread = self._path(time[rows], count).moments(mean[rows], covariance[rows])
            means[rows], covariances[rows] = moved[..., order], spread[..., order, :][..., order]
        for axis, density in self._diffusion:
            covariances[..., axis, axis] += density * time[:, None]
        return GaussianMixture(mixture.log_weights, means, covariances)

    def sample(
        self,
        states: Tensor,
        interval: Tensor,
        control: Control | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See `Motion.sample`; of one law with `predict`, along the same nodes."""
        batch, particles, _ = states.shape
        time, held, order = interval.double(), checked(control, batch, self.inputs), self._back(interval)
        inputs = states.new_zeros(batch, particles, self.inputs)
        if held is not None:
            inputs = held.value[:, None] + coloured(held.covariance, particles, generator)
        deviations = self._deviations(states.device)
        points = torch.cat([states, inputs, _white(states, len(deviations), generator) * deviations], -1)
        turn = points[..., self._rate].abs().amax(1) * time
        result = states.clone()
        for count, rows in _by_nodes(turn, time > 0):
            result[rows] = self._path(time[rows], count).evaluate(points[rows])[..., order]
        for axis, density in self._diffusion:
            result[..., axis] += (density * time).sqrt()[:, None] * _white(states, 1, generator)[..., 0]
        return result

    def _augmented(self, mixture: GaussianMixture, control: Control | None) -> tuple[Tensor, Tensor]:
        """Mean ``(B, K, A)`` and covariance ``(B, K, A, A)`` of ``a``."""
        held = checked(control, mixture.batch, self.inputs)
        deviations = self._deviations(mixture.means.device)
        state, inputs = slice(0, self.dimension), slice(self.dimension, self.dimension + self.inputs)
        shape = (mixture.batch, mixture.components, inputs.stop + len(deviations))
        mean = mixture.means.new_zeros(shape, dtype=torch.float64)
        covariance = mean.new_zeros(*shape, shape[-1])
        mean[..., state], covariance[..., state, state] = mixture.means.double(), mixture.covariances.double()
        if held is not None:
            mean[..., inputs], covariance[..., inputs, inputs] = held.value[:, None], held.covariance[:, None]
        covariance.diagonal(dim1=-2, dim2=-1)[..., inputs.stop :] = deviations.square()
        return mean, covariance

    def _active(self) -> dict[str, float]:
        densities = {name: float(getattr(self, f"{name}_density")) for name in self.NOISES}
        return {name: density for name, density in densities.items() if density > 0}

    def _deviations(self, device: torch.device) -> Tensor:
        """Standard deviations of the noises' coefficients over a unit of time."""
        densities = torch.tensor(list(self._active().values()), dtype=torch.float64, device=device)
        return densities.sqrt().repeat_interleave(TERMS)

    def _size(self) -> int:
        return self.dimension + self.inputs + TERMS * len(self._active())

    def _noise(self, name: str) -> slice:
        """Where the coefficients of a noise stand in ``a``: nowhere if it is zero."""
        names = list(self._active())
        if name not in names:
            return slice(0, 0)
        start = self.dimension + self.inputs + TERMS * names.index(name)
        return slice(start, start + TERMS)

    def _back(self, like: Tensor) -> Tensor:
        return torch.argsort(torch.tensor(self._order, device=like.device))


def _white(states: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    shape = (*states.shape[:2], size)
    return torch.randn(shape, dtype=torch.float64, device=states.device, generator=generator)


def put(rows: Tensor, place: slice, values: Tensor) -> None:
    """Sets the columns of a noise, where it has any."""
    if place.stop:
        rows[..., place] = values


def _by_nodes(turn: Tensor, moving: Tensor) -> list[tuple[int, Tensor]]:
    """Rows by how many nodes their turn (radians) needs: so a row's result does not depend on its neighbours."""
    limits = torch.tensor(LARGEST_TURN, dtype=turn.dtype, device=turn.device)
    choice = torch.bucketize(turn, limits)
    groups = [(count, (moving & (choice == i)).nonzero()[:, 0]) for i, count in enumerate(NODES)]
    return [(count, rows) for count, rows in groups if len(rows)]
