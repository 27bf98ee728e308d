"""Exact posteriors of an evaluation as samples, computed once for all answers.

They come from a grid in one and two dimensions, and from annealed sequential Monte Carlo in more. In both cases a
posterior is a set of ``P`` points of equal mass with the exact log density at each, so that

    KL(exact ‖ answer) = mean of (log exact − log answer) over the points.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from beliefstream.inference.training.families import Problems
from research.evaluation.exact.annealed import annealed_posterior
from research.evaluation.exact.grid import grid_posterior
from research.evaluation.exact.modes import count_modes
from research.evaluation.problems import held_out_problems, rows

POINTS = 2048  # number per problem
PARTICLES = 4096  # number per problem in the annealed populations, of which every second one is used
GRID_DIMENSIONS = 2
_DENSITIES_AT_ONCE = 400_000
_MODES_AT_ONCE = 4  # number of problems
_BLOCK = 128  # number of problems between two writes of the file
_BLOCK_SEEDS = 1_000_003

Progress = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    """Tell nothing."""


@dataclass(frozen=True)
class Reference:
    """Exact posteriors of ``B`` problems, in float64 unless stated otherwise.

    Attributes:
        points: points of equal mass, ``(B, P, d)``.
        log_density: exact log density at the points, nats, ``(B, P)``.
        log_evidence: nats, ``(B,)``.
        standard_error: standard error of the log evidence, nats, ``(B,)``; zero on a grid.
        modes: number of separated modes, ``(B,)`` int64.
        resolved: False if the posterior is finer than the grid, ``(B,)`` bool.
    """

    points: Tensor
    log_density: Tensor
    log_evidence: Tensor
    standard_error: Tensor
    modes: Tensor
    resolved: Tensor

    @classmethod
    def of(cls, problems: Problems, seed: int = 0, progress: Progress = _silent) -> Reference:
        """Compute the exact posteriors; `progress` is called with the number of problems done, and the total."""
        if problems.state.shape[1] <= GRID_DIMENSIONS:
            return cls._on_grid(problems, progress)
        generator = torch.Generator().manual_seed(seed)
        found = annealed_posterior(problems.prior, problems.observations, PARTICLES, generator, progress)
        points, density = (part[:, :: PARTICLES // POINTS] for part in found[:2])
        resolved = torch.ones(len(points), dtype=torch.bool)
        return cls(
            points.contiguous(),
            density.contiguous(),
            found.log_evidence,
            found.standard_error,
            _modes(problems, points),
            resolved,
        )

    @classmethod
    def _on_grid(cls, problems: Problems, progress: Progress) -> Reference:
        count = problems.prior.batch
        points, density, evidence, resolved = [], [], [], []
        for index in range(count):
            one = rows(problems, slice(index, index + 1))
            exact = grid_posterior(one.prior, one.observations)
            chosen = exact.representatives(POINTS)
            points.append(exact.points[chosen])
            density.append(exact.log_density[chosen])
            evidence.append(exact.log_evidence)
            resolved.append(exact.resolved)
            progress(index + 1, count)
        stacked, total = torch.stack(points), torch.tensor(evidence, dtype=torch.float64)
        modes = _modes(problems, stacked)
        return cls(
            stacked, torch.stack(density), total, torch.zeros_like(total), modes, torch.tensor(resolved)
        )

    def divergence(self, log_density: Callable[[Tensor], Tensor], components: int = 1) -> Tensor:
        """Return KL(exact ‖ answer) of every problem in nats, ``(B,)``; it may be slightly negative by chance.

        The answer is the function of its log density at points ``(B, P, d)``, with its number of components.
        """
        at_once = max(1, _DENSITIES_AT_ONCE // (components * self.points.shape[0]))
        parts = [log_density(chunk) for chunk in torch.split(self.points, at_once, 1)]
        return (self.log_density - torch.cat(parts, 1)).mean(1)

    def rows(self, index: Tensor | slice) -> Reference:
        """Return the exact posteriors of the problems at `index`."""
        return Reference(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def and_then(self, other: Reference) -> Reference:
        """Append the problems of `other`."""
        names = self.__dataclass_fields__
        return Reference(*(torch.cat([getattr(self, name), getattr(other, name)]) for name in names))


def _modes(problems: Problems, points: Tensor) -> Tensor:
    parts = []
    for index in torch.split(torch.arange(len(points)), _MODES_AT_ONCE):
        one = rows(problems, index)

        def log_joint(at: Tensor, one: Problems = one) -> Tensor:
            return one.prior.log_density(at) + one.observations.log_likelihood(at)

        parts.append(count_modes(points[index], log_joint))
    return torch.cat(parts)


def references(
    family: str,
    dimension: int,
    count: int,
    seed: int = 0,
    cache: Path | None = None,
    progress: Progress = _silent,
) -> tuple[Problems, Reference]:
    """Return held-out problems and their exact posteriors, which are stored in the file `cache`, if given.

    Stored posteriors of the same problems are used. The others are computed and stored, `_BLOCK` problems at a time, so
    an interrupted run can continue. A file of other problems is replaced. `progress` is called with the number of
    problems done, and the total. Raises ValueError for a family, count or seed that is invalid.
    """
    problems = held_out_problems(family, dimension, count, seed)
    reference = _stored(cache, problems) if cache is not None else None
    done = 0 if reference is None else len(reference.points)
    for start in range(done, count, _BLOCK):

        def tell(number: int, _: int, start: int = start) -> None:
            progress(start + number, count)

        block = rows(problems, slice(start, start + _BLOCK))
        fresh = Reference.of(block, seed * _BLOCK_SEEDS + start, tell)
        reference = fresh if reference is None else reference.and_then(fresh)
        if cache is not None:
            _store(cache, problems, reference)
    assert reference is not None  # count is at least 1
    return problems, reference.rows(slice(0, count))


def _stored(cache: Path, problems: Problems) -> Reference | None:
    """Return the content of the file, if it has these problems, the first of them, or more."""
    if not cache.exists():
        return None
    stored, marks = torch.load(cache, weights_only=True), _marks(problems)
    common = min(len(stored["marks"]), len(marks))
    same = stored["marks"].shape[1:] == marks.shape[1:] and torch.equal(
        stored["marks"][:common], marks[:common]
    )
    return Reference(**stored["reference"]) if same else None


def _store(cache: Path, problems: Problems, reference: Reference) -> None:
    marks = _marks(rows(problems, slice(0, len(reference.points))))
    content = {name: getattr(reference, name) for name in Reference.__dataclass_fields__}
    cache.parent.mkdir(parents=True, exist_ok=True)
    fresh = cache.with_name(f"{cache.name}.{os.getpid()}")
    torch.save({"marks": marks, "reference": content}, fresh)
    fresh.replace(cache)


def _marks(problems: Problems) -> Tensor:
    """Return numbers that identify the problems, ``(B, ...)``."""
    parts: Sequence[Tensor] = (
        problems.state,
        problems.prior.means.flatten(1),
        problems.observations.value.flatten(1),
        problems.observations.outlier_probability,
        problems.observations.standard_deviation,
    )
    return torch.cat([part.double() for part in parts], 1)
