"""The range of parameters and context that a likelihood is trained on.

A problem states it in `ranges`: the lowest and the highest value of each parameter and each context number. Parameters
are drawn uniformly in the coordinate that stands for them: a positive one by its logarithm, one of the unit interval
by its log odds. A context number is drawn uniformly, or has one value: ``"background": 5``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ProblemError, from_support


@dataclass(frozen=True)
class TrainingRange:
    """Lowest and highest value of each coordinate of a parameter, then of each context number; ``(Q,)`` float64."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, function: ProblemFunction) -> TrainingRange:
        """Read the problem's `ranges`.

        Raises ProblemError, with the name and its value, if a range is missing, unknown, empty or outside its support.
        """
        label, ranges = function.name, getattr(function.problem, "ranges", None)
        if not isinstance(ranges, Mapping):
            raise ProblemError(f"ranges: {label} needs the lowest and highest value by name, got {ranges!r}")
        supports = dict(function.parameters)
        names = [*supports, *function.context]
        unknown = [name for name in ranges if name not in names]
        missing = [name for name in names if name not in ranges]
        if unknown or missing:
            raise ProblemError(f"ranges: {label} needs {names}, got {list(ranges)}")
        ends = []
        for name in names:
            low, high = _ends(name, ranges[name], label, allow_single=name not in supports)
            if name in supports:
                try:
                    low, high = from_support(low, supports[name]), from_support(high, supports[name])
                except ValueError as error:
                    raise ProblemError(f"ranges: {name} of {label}: {error}") from error
            ends.append((low, high))
        low, high = torch.tensor(ends, dtype=torch.float64).T
        return cls(low.clone(), high.clone())

    @property
    def _width(self) -> Tensor:
        width = self.high - self.low
        return torch.where(width > 0, width, self.low.abs().clamp_min(1.0))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw coordinates and context, ``(count, Q)``."""
        share = torch.rand(count, len(self.low), dtype=torch.float64, generator=generator)
        return self.low + (self.high - self.low) * share

    def clamped(self, values: Tensor) -> Tensor:
        """Return `values` ``(..., Q)``, with the nearest edge for those outside."""
        return torch.minimum(torch.maximum(values, self.low), self.high)

    def scaled(self, values: Tensor) -> Tensor:
        """Map the range to −1…1, ``(..., Q)``; values outside it count as its nearest edge."""
        inside = self.clamped(values)
        return 2 * (inside - (self.low + self.high) / 2) / self._width

    def distance(self, values: Tensor) -> Tensor:
        """How far values lie outside the range, in its widths, ``(..., Q)``; zero inside."""
        beyond = torch.maximum(self.low - values, values - self.high).clamp_min(0)
        # sums of a definition's decimals round differently
        return torch.where(beyond > 1e-9 * self._width, beyond / self._width, 0.0)


def _ends(name: str, stated: Any, label: str, allow_single: bool) -> tuple[float, float]:
    """Read one range; a single number is a range without width."""
    ends = [stated, stated] if allow_single and isinstance(stated, (int, float)) else stated
    numbers = isinstance(ends, Sequence) and len(ends) == 2 and all(_is_finite(end) for end in ends)
    if not numbers or ends[0] > ends[1] or (ends[0] == ends[1] and not allow_single):
        wanted = "two finite numbers, the lower first" + (", or one" if allow_single else "")
        raise ProblemError(f"ranges: {name} of {label} needs {wanted}, got {stated!r}")
    return float(ends[0]), float(ends[1])


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
