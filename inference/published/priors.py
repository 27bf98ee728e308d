"""Priors of a problem in its published form: Gaussian mixtures over its coordinates, or a parametric family for each.

A problem may name families in `priors`, each with the ranges of its two numbers:

    priors = {"variance": ("inverse_gamma", (0.2, 40), (0.1, 60))}

Otherwise priors are mixtures. Those of the training have most of their mass within the problem's `ranges`.

``B`` is the number of priors, ``P`` of points, ``n`` of parameters. All tensors are float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from beliefstream.inference.likelihood.learned.training_range import TrainingRange
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ProblemError
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.published.parametric import FAMILIES

NARROWEST, WIDEST = 1 / 40, 1 / 4  # deviation of a component in training, in widths of the range
INSIDE = 2.0  # deviations of each component that lie within the range
MOST = 8  # components of a prior in training


@dataclass(frozen=True)
class Families:
    """A family for each parameter, with the lowest and highest logarithm of its numbers, each ``(2 n,)``."""

    names: tuple[str, ...]
    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, function: ProblemFunction) -> Families | None:
        """Read the problem's `priors`; None if it has none.

        Raises ProblemError, with the name and its value, if one is missing, unknown, or of another support.
        """
        stated = getattr(function.problem, "priors", None)
        if stated is None:
            return None
        wanted = [name for name, _ in function.parameters]
        if not isinstance(stated, Mapping) or sorted(stated) != sorted(wanted):
            raise ProblemError(f"priors: {function.name} needs a family for each of {wanted}, got {stated!r}")
        ends: list[tuple[float, float]] = []
        for name, support in function.parameters:
            label = f"priors: {name} of {function.name}"
            if not (isinstance(stated[name], Sequence) and len(stated[name]) == 3):
                raise ProblemError(
                    f"{label} needs a family and the ranges of two numbers, got {stated[name]!r}"
                )
            family, *ranges = stated[name]
            if family not in FAMILIES or FAMILIES[family].support != support:
                fit = [each for each, known in FAMILIES.items() if known.support == support]
                raise ProblemError(f"{label} is {support}: expected one of {fit}, got {family!r}")
            ends += [_logarithms(each, label) for each in ranges]
        low, high = torch.tensor(ends, dtype=torch.float64).T
        return cls(tuple(stated[name][0] for name in wanted), low.clone(), high.clone())

    def describe(self) -> dict[str, Any]:
        """Return the families and their ranges, of JSON's types."""
        return {"names": list(self.names), "low": self.low.tolist(), "high": self.high.tolist()}

    def draw_numbers(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw numbers of priors ``(count, 2 n)``, with uniform logarithms."""
        share = torch.rand(count, len(self.low), dtype=torch.float64, generator=generator)
        return (self.low + (self.high - self.low) * share).exp()

    def each(self, numbers: Tensor) -> list[tuple[str, Tensor]]:
        """Return each parameter's family, with its numbers ``(B, 2)``."""
        return list(zip(self.names, torch.split(numbers, 2, -1), strict=True))

    def moments(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and deviations of the coordinates, each ``(B, n)``."""
        moments = [FAMILIES[name].moments(own) for name, own in self.each(numbers)]
        return torch.stack([mean for mean, _ in moments], -1), torch.stack([each for _, each in moments], -1)

    def scaled(self, numbers: Tensor) -> Tensor:
        """Map logarithms of the numbers in training to −1…1, ``(B, 2 n)``; others count as the nearest edge."""
        return TrainingRange(self.low, self.high).scaled(numbers.log())


@dataclass(frozen=True)
class Priors:
    """Priors over the coordinates; of parametric ones, `mixture` has their moments.

    Attributes:
        mixture: ``(B, k)`` components.
        families, numbers: of parametric priors, with `numbers` ``(B, 2 n)``.
    """

    mixture: GaussianMixture
    families: Families | None = None
    numbers: Tensor | None = None

    @classmethod
    def parametric(cls, families: Families, numbers: Tensor) -> Priors:
        """Return the priors of these families."""
        mean, deviation = families.moments(numbers)
        covariance = torch.diag_embed(deviation.square())
        return cls(GaussianMixture.gaussian(mean, covariance), families, numbers)

    def log_density(self, points: Tensor) -> Tensor:
        """Return the log density at points ``(B, P, n)``, as ``(B, P)``."""
        if self.families is None or self.numbers is None:
            return self.mixture.log_density(points)
        parts = [
            FAMILIES[name].log_density(own, points[..., i])
            for i, (name, own) in enumerate(self.families.each(self.numbers))
        ]
        return torch.stack(parts).sum(0)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``(B, count, n)``."""
        if self.families is None or self.numbers is None:
            return self.mixture.sample(count, generator)
        repeated = self.numbers.repeat_interleave(count, 0)
        drawn = [FAMILIES[name].draw(own, generator) for name, own in self.families.each(repeated)]
        return torch.stack(drawn, -1).view(len(self.numbers), count, -1)


def drawn_mixtures(
    low: Tensor, high: Tensor, count: int, components: int, generator: torch.Generator
) -> GaussianMixture:
    """Draw `count` mixtures of 1 to `components` components within a range of coordinates.

    Deviations reach from `NARROWEST` to `WIDEST` of the range, and correlations are of any size.
    """
    size, width, places = len(low), high - low, min(components, MOST)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    whole = NARROWEST * (WIDEST / NARROWEST) ** uniform(count, 1, size)  # about the deviation of the mixture
    own = (whole * (0.3 + 0.7 * uniform(count, places, size))).clamp_min(NARROWEST)
    means = uniform(count, 1, size) + 0.8 * whole * normal(count, places, size)
    means = torch.minimum(torch.maximum(means, INSIDE * own), 1 - INSIDE * own)
    factor = normal(count, places, size, size + 1)
    gram = factor @ factor.mT
    root = gram.diagonal(dim1=-2, dim2=-1).sqrt()
    correlation = gram / (root[..., None] * root[..., None, :])
    deviations = own * width
    covariances = correlation * deviations[..., None] * deviations[..., None, :]
    present = torch.arange(places) < torch.randint(1, places + 1, (count, 1), generator=generator)
    logs = (-uniform(count, places).clamp_min(1e-9).log()).log().masked_fill(~present, -math.inf)
    return GaussianMixture(torch.log_softmax(logs, 1), low + width * means, covariances)


def _logarithms(ends: Any, label: str) -> tuple[float, float]:
    numbers = isinstance(ends, Sequence) and len(ends) == 2
    if not numbers or not all(isinstance(end, (int, float)) and 0 < end < math.inf for end in ends):
        raise ProblemError(f"{label} needs ranges of positive numbers, got {ends!r}")
    if ends[0] > ends[1]:
        raise ProblemError(f"{label} needs the lower number first, got {ends!r}")
    return math.log(ends[0]), math.log(ends[1])
