"""Exact posteriors of an evaluation as samples, computed once for all answers.

They use a grid in one and two dimensions, annealed sequential Monte Carlo in more. Either way a posterior becomes ``P``
points of equal mass with the exact log density at each, so that

    KL(exact ‖ answer) = mean of (log exact − log answer) over the points.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from beliefstream.inference.evaluation.annealed import annealed_posterior
from beliefstream.inference.evaluation.exact import grid_posterior
from beliefstream.inference.evaluation.families import Problems
from beliefstream.inference.evaluation.modes import count_modes
from beliefstream.inference.evaluation.problems import held_out_problems, rows
from beliefstream.inference.mixtures.mixture import GaussianMixture

POINTS = 2048  # per problem
PARTICLES = 4096  # of a problem's annealed populations; every second one is kept
GRID_DIMENSIONS = 2
_DENSITIES_AT_ONCE = 400_000
_MODES_AT_ONCE = 4  # problems
_BLOCK = 128  # problems between two writes of the file
_BLOCK_SEEDS = 1_000_003

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Reference:
    """Exact posteriors of ``B`` problems; float64 except `modes` and `resolved`."""

    points: Tensor  # (B, P, d), of equal mass
    log_density: Tensor  # (B, P), exact
    log_evidence: Tensor  # (B,)
    standard_error: Tensor  # (B,) of the log evidence; zero on a grid
    modes: Tensor  # (B,) int64, number of separated modes
    resolved: Tensor  # (B,) bool; False if the posterior is finer than the grid

    @classmethod
    def of(cls, problems: Problems, seed: int = 0, progress: Progress | None = None) -> Reference:
        """Exact posteriors of all problems; `progress` is called with the number done, and the total."""
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
    def _on_grid(cls, problems: Problems, progress: Progress | None) -> Reference:
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
            if progress is not None:
                progress(index + 1, count)
        stacked, total = torch.stack(points), torch.tensor(evidence, dtype=torch.float64)
        modes = _modes(problems, stacked)
        return cls(
            stacked, torch.stack(density), total, torch.zeros_like(total), modes, torch.tensor(resolved)
        )

    def divergence(self, answer: GaussianMixture) -> Tensor:
        """KL(exact ‖ answer) in nats of every problem, ``(B,)``; may be slightly negative by chance."""
        return self.divergence_from(answer.log_density, answer.components)

    def divergence_from(self, log_density: Callable[[Tensor], Tensor], components: int = 1) -> Tensor:
        """As `divergence`, for an answer that is a log density at points ``(B, P, d)``."""
        at_once = max(1, _DENSITIES_AT_ONCE // (components * self.points.shape[0]))
        parts = [log_density(chunk) for chunk in torch.split(self.points, at_once, 1)]
        return (self.log_density - torch.cat(parts, 1)).mean(1)

    def rows(self, index: Tensor | slice) -> Reference:
        """The references of the problems at `index`."""
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
    progress: Progress | None = None,
) -> tuple[Problems, Reference]:
    """Held-out problems and their exact posteriors; kept in the file `cache`, if given.

    Posteriors of the same problems in the file are used. The rest are computed and added, `_BLOCK` problems at a time,
    so an interrupted run can continue. A file of other problems is replaced. `progress` is called with the number done,
    and the total.
    """
    problems = held_out_problems(family, dimension, count, seed)
    reference = _stored(cache, problems) if cache is not None else None
    done = 0 if reference is None else len(reference.points)
    for start in range(done, count, _BLOCK):

        def tell(number: int, _: int, start: int = start) -> None:
            if progress is not None:
                progress(start + number, count)

        block = rows(problems, slice(start, start + _BLOCK))
        fresh = Reference.of(block, seed * _BLOCK_SEEDS + start, tell)
        reference = fresh if reference is None else reference.and_then(fresh)
        if cache is not None:
            _store(cache, problems, reference)
    assert reference is not None  # count is at least 1
    return problems, reference.rows(slice(0, count))


def _stored(cache: Path, problems: Problems) -> Reference | None:
    """The file's content, if it is of these problems, of the first of them, or of more."""
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
    """Numbers that identify problems, ``(B, ...)``."""
    parts: Sequence[Tensor] = (
        problems.state,
        problems.prior.means.flatten(1),
        problems.observations.value.flatten(1),
        problems.observations.outlier_probability,
        problems.observations.standard_deviation,
    )
    return torch.cat([part.double() for part in parts], 1)
