"""Laws of one datum, given by the outputs of a network: probabilities where it is discrete, else a density.

- `Classes`: one probability for each of a few values: a binary datum, a small count, or values that all repeat. Counts
  have a class for all larger ones, which a geometric law divides.
- `Steps`: a mixture of logistic laws on the scale of the data, integrated between the midpoints of successive values:
  any other count, or many values that repeat, as of a coarse instrument (T. Salimans et al., "PixelCNN++", ICLR
  2017, section 2.1).
- `Density`: a mixture of logistic laws on the scale of the data (C. M. Bishop, "Mixture Density Networks", 1994),
  beside probabilities of single values that repeat, such as the limit of a sensor that is cut off.

`law_of` chooses by simulated values. All numbers of data are ``(M,)`` float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from beliefstream.inference.likelihood.learned.data_scales import DataScale
from beliefstream.inference.likelihood.learned.logistic_mixtures import (
    FAR,
    OUTPUTS,
    LineMixture,
    first_outputs,
)
from beliefstream.inference.likelihood.problems import Domain

MOST_CLASSES = 64
SMALL_COUNT = 31  # counts up to it are classes
REPEATED = 5  # times that a value comes among the simulated ones, for it to have a probability of its own
MOST_STEPS = 4096
BEYOND = -30.0  # nats, of the density of what lies beyond a limit: it was never simulated
_LOG_HALF = math.log(0.5)


class Law(Protocol):
    """Law of one datum; `outputs` are those of a network, ``(M, size)``."""

    @property
    def size(self) -> int:
        """Number of outputs that the law takes."""

    def log_probability(self, outputs: Tensor, values: Tensor) -> Tensor:
        """Log probability of discrete values, log density of others; ``(M,)``."""

    def interval(self, outputs: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Probability of what comes before each value in the order of the law, and that of the value itself."""

    def feature(self, values: Tensor) -> Tensor:
        """The values as inputs of the network of the next datum, near one in size."""

    def first(self) -> Tensor:
        """Outputs to begin with, ``(size,)``."""

    def describe(self) -> dict[str, Any]:
        """Return what `law_from` reads."""


@dataclass(frozen=True)
class Classes:
    """Probabilities of a few values, in order; `tail` adds a class of all larger whole numbers."""

    levels: tuple[float, ...]
    tail: bool

    @property
    def size(self) -> int:
        return len(self.levels) + self.tail

    def _index(self, values: Tensor) -> Tensor:
        levels = torch.tensor(self.levels, dtype=values.dtype, device=values.device)
        edges = (levels[1:] + levels[:-1]) / 2
        index = torch.bucketize(values.contiguous(), edges)
        return index + (values > levels[-1] + 0.5).long() if self.tail else index

    def log_probability(self, outputs: Tensor, values: Tensor) -> Tensor:
        logs = torch.log_softmax(outputs, -1).gather(-1, self._index(values)[:, None])[:, 0]
        if not self.tail:
            return logs
        beyond = values - self.levels[-1]
        return logs + torch.where(beyond > 0.5, _LOG_HALF * beyond, 0.0)

    def interval(self, outputs: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        shares = torch.softmax(outputs, -1)
        index = self._index(values)[:, None]
        own = shares.gather(-1, index)[:, 0]
        below = shares.cumsum(-1).gather(-1, index)[:, 0] - own
        if self.tail:
            beyond = (values - self.levels[-1]).clamp_min(0)
            part = torch.where(beyond > 0, own * 0.5**beyond, own)
            return below + torch.where(beyond > 0, own * (1 - 0.5 ** (beyond - 1)), 0.0), part
        return below, own

    def feature(self, values: Tensor) -> Tensor:
        middle = (self.levels[0] + self.levels[-1]) / 2
        half = max((self.levels[-1] - self.levels[0]) / 2, 1e-12)
        return (values - middle) / half

    def first(self) -> Tensor:
        return torch.zeros(self.size)

    def describe(self) -> dict[str, Any]:
        return {"law": "classes", "levels": list(self.levels), "tail": self.tail}


@dataclass(frozen=True)
class Steps:
    """Probabilities between the midpoints of successive values; without `levels`, of all whole numbers from 0 on."""

    scale: DataScale
    levels: tuple[float, ...] = ()

    size = OUTPUTS

    def _edges(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Ends of each value's step on the scale."""
        if not self.levels:
            low = torch.where(values > 0, self.scale.place(values - 0.5), -FAR)
            return low, self.scale.place(values + 0.5)
        levels = torch.tensor(self.levels, dtype=values.dtype, device=values.device)
        middle = (levels[1:] + levels[:-1]) / 2
        far = torch.full((1,), FAR, dtype=values.dtype, device=values.device)
        edges = torch.cat([-far, self.scale.place(middle), far])
        index = torch.bucketize(values.contiguous(), middle)
        return edges[index], edges[index + 1]

    def log_probability(self, outputs: Tensor, values: Tensor) -> Tensor:
        return LineMixture.of(outputs).log_mass(*self._edges(values))

    def interval(self, outputs: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        low, high = self._edges(values)
        mixture = LineMixture.of(outputs)
        return mixture.below(low), mixture.log_mass(low, high).exp()

    def feature(self, values: Tensor) -> Tensor:
        return self.scale.place(values)

    def first(self) -> Tensor:
        return first_outputs()

    def describe(self) -> dict[str, Any]:
        return {"law": "steps", "levels": list(self.levels), "scale": _described(self.scale)}


@dataclass(frozen=True)
class Density:
    """A density, beside the probabilities of the values in `atoms`, which come first in the order of the law.

    The density ends at the atoms that are a limit: the first one, the last one, or both, as `ends` says.
    """

    scale: DataScale
    atoms: tuple[float, ...] = ()
    ends: tuple[bool, bool] = (False, False)

    @property
    def size(self) -> int:
        return OUTPUTS + (len(self.atoms) + 1 if self.atoms else 0)

    def _parts(self, outputs: Tensor, values: Tensor) -> tuple[LineMixture, Tensor, Tensor]:
        """The mixture, log shares of the atoms and of the rest, and the place of each value among them."""
        mixture, shares = LineMixture.of(outputs[:, :OUTPUTS]), outputs[:, OUTPUTS:]
        if not self.atoms:
            return mixture, torch.zeros_like(outputs[:, :1]), torch.zeros_like(values, dtype=torch.int64)
        atoms = torch.tensor(self.atoms, dtype=values.dtype, device=values.device)
        equal = torch.isclose(values[:, None], atoms, rtol=1e-6, atol=1e-12)
        index = torch.where(equal.any(-1), equal.long().argmax(-1), len(self.atoms))
        return mixture, torch.log_softmax(shares, -1), index

    def _limits(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Places of the ends of the density, each ``(M,)``."""
        far = torch.full_like(values, FAR)
        low = self.scale.place(torch.full_like(values, self.atoms[0])) if self.ends[0] else -far
        return low, self.scale.place(torch.full_like(values, self.atoms[-1])) if self.ends[1] else far

    def log_probability(self, outputs: Tensor, values: Tensor) -> Tensor:
        mixture, shares, index = self._parts(outputs, values)
        chosen, place = shares.gather(-1, index[:, None])[:, 0], self.scale.place(values)
        density = mixture.log_density(place) + self.scale.log_slope(values)
        if any(self.ends):
            low, high = self._limits(values)
            beyond = (place < low) | (place > high)
            density = density - mixture.log_mass(low, high) + torch.where(beyond, BEYOND, 0.0)
        return chosen + torch.where(index < len(self.atoms), 0.0, density)

    def interval(self, outputs: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        mixture, shares, index = self._parts(outputs, values)
        own = shares.exp().gather(-1, index[:, None])[:, 0]
        before = shares.exp().cumsum(-1).gather(-1, index[:, None])[:, 0] - own
        low, high = self._limits(values)
        inside = (mixture.below(self.scale.place(values)) - mixture.below(low)) / mixture.log_mass(
            low, high
        ).exp()
        atom = index < len(self.atoms)
        return before + torch.where(atom, 0.0, own * inside.clamp(0, 1)), torch.where(atom, own, 0.0)

    def feature(self, values: Tensor) -> Tensor:
        return self.scale.place(values)

    def first(self) -> Tensor:
        return torch.cat([first_outputs(), torch.zeros(self.size - OUTPUTS)])

    def describe(self) -> dict[str, Any]:
        return {
            "law": "density",
            "atoms": list(self.atoms),
            "ends": list(self.ends),
            "scale": _described(self.scale),
        }


def law_of(values: Tensor, domain: Domain) -> Law:
    """Choose the law of a datum by simulated `values` ``(M,)``."""
    levels, times = torch.unique(values, return_counts=True)
    if domain == "binary":
        return Classes((0.0, 1.0), False)
    if domain == "count":
        most = int(levels[-1])
        if most <= SMALL_COUNT:
            return Classes(tuple(map(float, range(most + 1))), True)
        return Steps(DataScale.of(values, domain))
    repeated = times >= REPEATED
    share = float(times[repeated].sum()) / len(values)
    if share > 0.999 and int(repeated.sum()) <= MOST_CLASSES:
        return Classes(tuple(levels[repeated].tolist()), False)
    if share > 0.99 and len(levels) <= MOST_STEPS:
        return Steps(DataScale.of(values, domain), tuple(levels.tolist()))
    most_common = times[repeated].argsort(descending=True)[:MOST_CLASSES]
    atoms = levels[repeated][most_common].sort().values.tolist()
    plain = values[~torch.isin(values, levels[repeated])]
    ends = bool(atoms) and atoms[0] == float(levels[0]), bool(atoms) and atoms[-1] == float(levels[-1])
    return Density(DataScale.of(plain, domain), tuple(atoms), ends)


def law_from(described: dict[str, Any]) -> Law:
    """Read what `Law.describe` returned; raises KeyError, TypeError or ValueError if it is something else."""
    if described["law"] == "classes":
        return Classes(tuple(map(float, described["levels"])), bool(described["tail"]))
    stated = described["scale"]
    scale = DataScale(stated["domain"], float(stated["centre"]), float(stated["width"]))
    if described["law"] == "steps":
        return Steps(scale, tuple(map(float, described["levels"])))
    if described["law"] == "density":
        first, last = described["ends"]
        return Density(scale, tuple(map(float, described["atoms"])), (bool(first), bool(last)))
    raise ValueError(f"law: {described['law']!r} is unknown")


def _described(scale: DataScale) -> dict[str, Any]:
    return {"domain": scale.domain, "centre": scale.centre, "width": scale.width}
