"""Base of linear-Gaussian motions: ``x' = F x + G u + c + n``, ``n ~ N(0, Q)``, with a constant control ``u``."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion.protocol import Control, Motion, checked, coloured


class LinearMotion(Motion):
    """A motion given by its transition, and optionally by a gain of its inputs and a shift."""

    @abstractmethod
    def transition(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``F`` and ``Q``, each ``(B, D, D)`` float64, over `interval` ``(B,)``, seconds."""

    def gain(self, interval: Tensor) -> Tensor:
        """Return ``G`` ``(B, D, C)``, the change per unit of each input, constant over `interval` ``(B,)``, seconds."""
        return interval.new_zeros(len(interval), self.dimension, self.inputs, dtype=torch.float64)

    def shift(self, interval: Tensor) -> Tensor:
        """Return ``c`` ``(B, D)``, the constant change over `interval` ``(B,)``, seconds."""
        return interval.new_zeros(len(interval), self.dimension, dtype=torch.float64)

    def predict(
        self, mixture: GaussianMixture, interval: Tensor, control: Control | None = None
    ) -> GaussianMixture:
        """See `Motion.predict`; exact."""
        matrix, shift, noise = self.change(interval, control)
        more = mixture.dimension - self.dimension
        if more:
            matrix = torch.nn.functional.pad(matrix, (0, more, 0, more))
            matrix.diagonal(dim1=1, dim2=2)[:, self.dimension :] = 1.0
            noise = torch.nn.functional.pad(noise, (0, more, 0, more))
            shift = torch.nn.functional.pad(shift, (0, more))
        return mixture.affine(matrix, noise, shift)

    def change(self, interval: Tensor, control: Control | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The matrix ``(B, D, D)``, shift ``(B, D)`` and added covariance ``(B, D, D)`` of a motion over `interval`.

        `interval` ``(B,)`` is in seconds. Raises ValueError as `predict` does.
        """
        held = checked(control, len(interval), self.inputs)
        matrix, noise = self.transition(interval)
        shift = self.shift(interval)
        if held is None:
            return matrix, shift, noise
        gain = self.gain(interval)
        return matrix, shift + la.times(gain, held.value), noise + gain @ held.covariance @ gain.mT

    def sample(
        self,
        states: Tensor,
        interval: Tensor,
        control: Control | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """See `Motion.sample`."""
        batch, count, _ = states.shape
        held = checked(control, batch, self.inputs)
        matrix, noise = self.transition(interval)
        moved = states @ matrix.mT + self.shift(interval)[:, None] + coloured(noise, count, generator)
        if held is None:
            return moved
        inputs = held.value[:, None] + coloured(held.covariance, count, generator)
        return moved + inputs @ self.gain(interval).mT
