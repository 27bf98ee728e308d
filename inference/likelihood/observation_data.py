"""The numbers of a batch of observations: kinds of sensors, geometry, noise and reported values.

`inference.likelihood.observations` adds likelihoods and linearisations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from beliefstream.inference.likelihood.measurement_functions import Functions
from beliefstream.inference.likelihood.noise import NoiseMixture, wrap
from beliefstream.inference.likelihood.problem_functions import Likelihoods
from beliefstream.inference.mixtures import linear_algebra as la

LINEAR, RANGE, ANGLE, FUNCTION, LIKELIHOOD = 0, 1, 2, 3, 4


@dataclass(frozen=True)
class ObservationData:
    """Up to ``N`` observations for each of ``B`` entities; unused places have ``mask`` False."""

    kind: Tensor  # (B, N) int64
    mask: Tensor  # (B, N) bool
    value: Tensor  # (B, N, R); range and angle use only the first place
    matrix: Tensor  # (B, N, R, d)
    origin: Tensor  # (B, N, R)
    heading: Tensor  # (B, N, d)
    standard_deviation: Tensor  # (B, N), in the units of `value`; 1 for linear
    rows: Tensor  # (B, N) number of measured values, as a float
    log_scale: Tensor  # (B, N) half the log determinant of the noise covariance, in the sensor's own units
    outlier_probability: Tensor  # (B, N)
    outlier_log_density: (
        Tensor  # (B, N) density of an outlier at the value, in the sensor's own units; unused by linear
    )
    # None where no observation of the batch needs them; linear ones never do
    mixture: NoiseMixture | None = None  # its ratios multiply the standard deviation
    deviation_slope: Tensor | None = None  # (B, N): the deviation is standard_deviation + slope · |h(x)|
    functions: Functions | None = None
    hidden: Tensor | None = None  # (B, N) int64: how many of the last coordinates are errors of sensors
    likelihoods: Likelihoods | None = None
    product: Tensor | None = None  # (B, N, 6), a `native_terms.Product` each

    @property
    def batch(self) -> int:
        return self.kind.shape[0]

    @property
    def dimension(self) -> int:
        return self.matrix.shape[-1]

    def relative(self, points: Tensor) -> Tensor:
        """``A x − a`` at `points` ``(B, P, d)``: ``(B, P, N, R)``."""
        batch, count, rows, size = self.matrix.shape
        image = points @ self.matrix.reshape(batch, count * rows, size).mT
        return image.view(batch, points.shape[1], count, rows) - self.origin[:, None]

    @cached_property
    def has_angles(self) -> bool:
        """Whether the batch has any angle; an arc tangent costs more than the rest of a residual.

        Always True while compiling, as a compiled graph has one path only.
        """
        return torch.compiler.is_compiling() or bool((self.kind == ANGLE).any())

    @property
    def rows_needed(self) -> int:
        """The smallest number of rows of `matrix` that keeps every nonzero row, and the plane of every angle."""
        place = torch.arange(1, self.matrix.shape[-2] + 1, device=self.matrix.device)
        rows = int(((self.matrix != 0).any(-1) * place).max())
        return max(rows, 2 if self.has_angles else 1)

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Apply `change` to every tensor; it must keep the two leading dimensions in place."""
        changed: dict[str, Tensor | NoiseMixture | Functions | Likelihoods] = {}
        for field in fields(self):
            part = getattr(self, field.name)
            if part is not None:
                changed[field.name] = change(part) if isinstance(part, Tensor) else part.map(change)
        return type(self)(**changed)  # type: ignore[arg-type]

    def rows_of(self, index: Tensor | slice) -> Self:
        """The observations of the entities at `index`."""
        return self.map(lambda tensor: tensor[index])

    def one_each(self, places: Tensor) -> Self:
        """The observation of each entity at `places` ``(B,)``, as the only one."""
        row = torch.arange(len(places), device=places.device)
        return self.map(lambda tensor: tensor[row, places][:, None])

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Self:
        def cast(tensor: Tensor) -> Tensor:
            return tensor.to(dtype=dtype if tensor.is_floating_point() else None, device=device)

        return self.map(cast)

    def in_coordinates(self, shift: Tensor, scale: Tensor) -> Self:
        """The same observations as functions of y, where the state is ``x = shift + scale · y``.

        `shift` ``(B, d)``, `scale` ``(B,)``. Likelihoods remain those of the values as reported.
        """
        image = la.times(self.matrix, shift[:, None])
        factor = scale[:, None]
        linear, is_range = self.kind == LINEAR, self.kind == RANGE
        turn = (self.heading * shift[:, None]).sum(-1)
        value = self.value[..., 0] + turn
        first = torch.where(is_range, value / factor, torch.where(self.wraps, wrap(value), value))
        matrix, mixture = self.matrix * factor[..., None, None], self.mixture
        origin = (self.origin - image) / factor[..., None]
        if self.functions is None and self.likelihoods is None:
            matrix = torch.where(linear[..., None, None], matrix, self.matrix)
        else:  # a function or a problem takes u = A x − a, which must not change
            function = self.takes_coordinates
            matrix = torch.where((linear | function)[..., None, None], matrix, self.matrix)
            origin = torch.where(function[..., None], self.origin - image, origin)
        if mixture is not None:
            bias = torch.where(is_range[..., None], mixture.bias / factor[..., None], mixture.bias)
            mixture = mixture._replace(bias=bias)
        scalar = torch.cat([first[..., None], self.value[..., 1:]], -1)
        deviation = torch.where(is_range, self.standard_deviation / factor, self.standard_deviation)
        return replace(
            self,
            value=torch.where(linear[..., None], self.value - image, scalar),
            matrix=matrix,
            origin=torch.where(linear[..., None], self.origin, origin),
            heading=torch.where(is_range[..., None], self.heading, self.heading * factor[..., None]),
            standard_deviation=deviation,
            mixture=mixture,
        )

    @property
    def has_problem(self) -> Tensor:
        """Which entities have an observation of a problem, ``(B,)`` bool."""
        return self._has(self.likelihoods)

    @property
    def has_functions(self) -> Tensor:
        """Which entities have a measurement function, ``(B,)`` bool."""
        return self._has(self.functions)

    def _has(self, part: Functions | Likelihoods | None) -> Tensor:
        return torch.zeros_like(self.mask[:, 0]) if part is None else (part.present & self.mask).any(1)

    @property
    def takes_coordinates(self) -> Tensor:
        """Which observations are functions or problems, ``(B, N)`` bool."""
        which = torch.zeros_like(self.mask)
        for part in (self.functions, self.likelihoods):
            if part is not None:
                which = which | part.present
        return which

    @property
    def wraps(self) -> Tensor:
        """Which residuals are directions, ``(B, N)`` bool."""
        is_angle = self.kind == ANGLE
        return is_angle if self.functions is None else is_angle | self.functions.angle

    @property
    def has_plain_noise(self) -> bool:
        """Whether all noise of the batch is Gaussian with a constant standard deviation."""
        return self.mixture is None and self.deviation_slope is None

    @property
    def is_plain(self) -> Tensor:
        """Which entities have only Gaussian noise with a constant standard deviation, ``(B,)`` bool."""
        other = self.noise_components > 0
        if self.likelihoods is not None:
            other = other | self.likelihoods.present
        if self.deviation_slope is not None:
            other = other | (self.deviation_slope != 0)
        return ~(other & self.mask).any(1)

    @property
    def finite(self) -> Tensor:
        """Which entities have only finite numbers, ``(B,)`` bool."""
        parts = (self.value, self.matrix, self.origin, self.standard_deviation)
        return torch.stack([part.isfinite().flatten(1).all(1) for part in parts]).all(0)

    @property
    def is_irregular(self) -> Tensor:
        """Which observations may have many peaks: functions, problems and noise mixtures, ``(B, N)`` bool."""
        which = self.takes_coordinates
        if self.mixture is not None:
            which = which | ((self.mixture.log_weights > -math.inf).sum(-1) > 1)
        return which

    @property
    def noise_components(self) -> Tensor:
        """Number of components of each noise, ``(B, N)``; zero for one Gaussian of the standard deviation."""
        if self.mixture is None:
            return torch.zeros_like(self.kind)
        place = torch.arange(1, self.mixture.bias.shape[-1] + 1, device=self.mask.device)
        count = ((self.mixture.log_weights > -math.inf) * place).amax(-1)
        plain = (count <= 1) & (self.mixture.bias[..., 0] == 0) & (self.mixture.ratio[..., 0] == 1)
        return torch.where(plain, 0, count)
