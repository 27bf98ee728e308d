"""Scales on which data are learned: near one in size, and roughly symmetric, whatever the units of the data.

A scale is ``z = asinh((t(d) − centre) / width)``: t is the identity for real data, ``log d`` for positive ones,
``logit d`` for those of the unit interval and ``log(d + 1)`` for counts; centre and width are the median and the
distance of the quartiles. The hyperbolic sine keeps heavy tails within reach of a few components.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from beliefstream.inference.likelihood.problems import Domain

_LEAST = 1e-12  # distance of data from the ends of their domain


@dataclass(frozen=True)
class DataScale:
    """The scale of one datum; all tensors are ``(M,)`` float64."""

    domain: Domain
    centre: float
    width: float

    @classmethod
    def of(cls, values: Tensor, domain: Domain) -> DataScale:
        """Fit the scale to simulated `values`."""
        plain = cls(domain, 0.0, 1.0)._transformed(values)
        quarter, centre, upper = torch.quantile(
            plain, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
        ).tolist()
        width = (upper - quarter) / 1.35  # the deviation of a Gaussian
        if width <= 0:  # more than half the values are equal
            width = float(plain.std())
        return cls(domain, centre, width if width > 0 else 1.0)

    def _transformed(self, values: Tensor) -> Tensor:
        if self.domain == "positive":
            return values.clamp_min(1e-300).log()
        if self.domain == "count":
            return torch.log1p(values.clamp_min(-0.5))
        if self.domain in ("unit", "binary"):
            return torch.logit(values, _LEAST)
        return values

    def place(self, values: Tensor) -> Tensor:
        """Return z."""
        return torch.asinh((self._transformed(values) - self.centre) / self.width)

    def log_slope(self, values: Tensor) -> Tensor:
        """Return log dz/dd, which turns a density of z into one of d."""
        off = (self._transformed(values) - self.centre) / self.width
        log_slope = -0.5 * torch.log1p(off.square()) - torch.log(
            torch.tensor(self.width, dtype=torch.float64)
        )
        if self.domain == "positive":
            return log_slope - values.clamp_min(1e-300).log()
        if self.domain == "count":
            return log_slope - torch.log1p(values)
        if self.domain in ("unit", "binary"):
            inside = values.clamp(_LEAST, 1 - _LEAST)
            return log_slope - inside.log() - torch.log1p(-inside)
        return log_slope
