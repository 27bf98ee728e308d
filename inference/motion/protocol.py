"""Interface of motions, and the control that they take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture


class Control(NamedTuple):
    """Reported inputs, such as speed and turn rate from odometry, in float64.

    The inputs and their error are constant over one prediction (zero-order hold). Errors of different predictions are
    independent.

    Attributes:
        value: inputs, in their units, ``(B, C)``.
        covariance: covariance of their error, positive semidefinite, ``(B, C, C)``.
    """

    value: Tensor
    covariance: Tensor


class Motion(ABC):
    """A motion model. Intervals are in seconds and never negative; an interval of zero changes nothing."""

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Number of coordinates of the state, ``D``."""

    @property
    def inputs(self) -> int:
        """Number of inputs, ``C``; 0 if the motion takes none."""
        return 0

    @property
    def is_static(self) -> bool:
        """Whether the state never changes."""
        return False

    @abstractmethod
    def predict(
        self, mixture: GaussianMixture, interval: Tensor, control: Control | None = None
    ) -> GaussianMixture:
        """Return `mixture` ``(B, K, D)`` after `interval` ``(B,)``, seconds, with the same weights.

        Without a control the inputs are exactly zero. More coordinates after the D of the state do not change.

        Raises:
            ValueError: the control has a wrong shape, or the motion takes none.
        """

    @abstractmethod
    def sample(
        self,
        states: Tensor,
        interval: Tensor,
        control: Control | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw one state after `interval` ``(B,)``, seconds, for each of `states` ``(B, P, D)``."""


def checked(control: Control | None, batch: int, inputs: int) -> Control | None:
    """Return the control as float64, or None for a motion without inputs.

    Raises:
        ValueError: the control has a wrong shape, or the motion takes none.
    """
    if control is None:
        return None
    if not inputs:
        raise ValueError("control: this motion takes none")
    if control.value.shape != (batch, inputs):
        raise ValueError(f"control.value: expected ({batch}, {inputs}), got {tuple(control.value.shape)}")
    if control.covariance.shape != (batch, inputs, inputs):
        expected = (batch, inputs, inputs)
        raise ValueError(f"control.covariance: expected {expected}, got {tuple(control.covariance.shape)}")
    return Control(control.value.double(), control.covariance.double())


def coloured(covariance: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Draw `count` vectors ``(B, count, D)`` from ``N(0, covariance)``; `covariance` ``(B, D, D)`` may be singular."""
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(0).sqrt()[:, None]
    shape = (covariance.shape[0], count, covariance.shape[-1])
    white = torch.randn(shape, dtype=covariance.dtype, device=covariance.device, generator=generator)
    draws: Tensor = white @ root.mT
    return draws
