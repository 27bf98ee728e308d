"""Compares the answers of methods with exact posteriors, on held-out problems of one dimension.

The result of each problem is KL(exact ‖ answer) in nats, the mean of ``log exact − log answer`` over 2 048 points of
equal mass. Problems with an unresolved exact posterior are counted, and included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.training.families import Problems
from research.evaluation.exact.reference import Reference, references
from research.evaluation.methods import ComparedMethod, MethodAnswer
from research.evaluation.problems import kinds, rows
from research.evaluation.progress import Progress, silent

ALL = "all"
TRUSTED = 0.5  # sample efficiency above which the log evidence is compared with the exact one


class Row(NamedTuple):
    """Results of one method on the problems of one kind; divergences in nats."""

    method: str
    kind: str
    problems: int
    mean: float
    standard_error: float  # of the mean; NaN for one problem
    median: float
    ninetieth: float
    worst: float


class Evidence(NamedTuple):
    """Error of the log evidence, for problems with a sample efficiency of at least `TRUSTED`."""

    method: str
    problems: int  # number of these problems
    of: int  # number of all problems
    mean_absolute_error: float  # nats
    worst: float


@dataclass(frozen=True)
class Comparison:
    """Results of all methods on ``P`` problems of one family and dimension.

    Attributes:
        family: name of the family.
        dimension: number of coordinates.
        divergences: KL(exact ‖ answer) by method, nats, up to ``(P,)``; a costly method has only the first problems.
        kinds: which problems are of each kind by name, ``(P,)`` bool; the first kind is all problems.
        evidence_errors: answered minus exact log evidence by method, nats, ``(P,)``.
        sample_sizes: sample efficiency by method, ``(P,)``.
        unresolved: whether the exact posterior is finer than the grid, ``(P,)`` bool.
        exact_errors: standard error of the exact log evidence, nats, ``(P,)``; zero on a grid.
    """

    family: str
    dimension: int
    divergences: dict[str, Tensor]
    kinds: dict[str, Tensor]
    evidence_errors: dict[str, Tensor]
    sample_sizes: dict[str, Tensor]
    unresolved: Tensor
    exact_errors: Tensor

    @property
    def count(self) -> int:
        return len(self.unresolved)

    def rows(self, only: Sequence[str] | None = None) -> list[Row]:
        """Return a row for each method and kind, of all kinds or of `only`, if the method has such problems."""
        found = []
        for kind, of_kind in self.kinds.items():
            for method, values in self.divergences.items():
                chosen = values[of_kind[: len(values)]]
                if len(chosen) and (only is None or kind in only):
                    found.append(_row(method, kind, chosen))
        return found

    def evidence(self) -> list[Evidence]:
        """Return a row for each method with a log evidence; NaN if no sample efficiency is large enough."""
        found = []
        for method, errors in self.evidence_errors.items():
            trusted = errors[self.sample_sizes[method] >= TRUSTED].abs()
            mean = float(trusted.mean()) if len(trusted) else math.nan
            worst = float(trusted.max()) if len(trusted) else math.nan
            found.append(Evidence(method, len(trusted), len(errors), mean, worst))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return tables and single problems as a JSON value, with null for numbers that are not finite."""
        return {
            "family": self.family,
            "dimension": self.dimension,
            "problems": self.count,
            "unresolved": int(self.unresolved.sum()),
            "exact_standard_error": float(self.exact_errors.mean()),
            "table": [plain(row) for row in self.rows()],
            "evidence": [plain(row) for row in self.evidence()],
            "divergences": {name: numbers(values) for name, values in self.divergences.items()},
            "evidence_errors": {name: numbers(values) for name, values in self.evidence_errors.items()},
            "sample_sizes": {name: numbers(values) for name, values in self.sample_sizes.items()},
            "kinds": {name: values.tolist() for name, values in self.kinds.items()},
            "unresolved_problems": self.unresolved.nonzero()[:, 0].tolist(),
            "exact_standard_errors": numbers(self.exact_errors),
        }


def plain(row: Any) -> dict[str, Any]:
    """Return a named tuple as a JSON value, with null for numbers that are not finite."""
    return {name: _number(value) for name, value in row._asdict().items()}


def numbers(values: Tensor) -> list[Any]:
    """Return a vector as a JSON value."""
    return [_number(value) for value in values.tolist()]


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _row(method: str, kind: str, values: Tensor) -> Row:
    count = len(values)
    error = float(values.std()) / math.sqrt(count) if count > 1 else math.nan
    median, ninetieth = values.quantile(torch.tensor([0.5, 0.9], dtype=values.dtype)).tolist()
    return Row(method, kind, count, float(values.mean()), error, median, ninetieth, float(values.max()))


def compare(
    methods: Sequence[ComparedMethod],
    dimension: int,
    count: int,
    costly_count: int | None = None,
    family: str = "mixed",
    cache: Path | None = None,
    progress: Progress = silent,
    seed: int = 0,
) -> Comparison:
    """Run every method on the same `count` held-out problems, costly ones on the first `costly_count`.

    The exact posteriors are kept in the file `cache`. Raises ValueError if family, count or seed is invalid.
    """

    def tell(what: str) -> Callable[[int, int], None]:
        return partial(progress, f"{what}, d = {dimension}")

    problems, reference = references(family, dimension, count, seed, cache, tell("exact posteriors"))
    divergences, errors, sizes = {}, {}, {}
    for method in methods:
        number = count if costly_count is None or not method.costly else min(count, costly_count)
        found = _run(method, problems, reference, number, tell(method.name))
        divergences[method.name] = found[0]
        if found[1] is not None and found[2] is not None:
            errors[method.name], sizes[method.name] = found[1] - reference.log_evidence, found[2]
    of_kind = {ALL: torch.ones(count, dtype=torch.bool), **kinds(problems.prior, problems.observations)}
    of_kind |= {"one mode": reference.modes <= 1, "several modes": reference.modes > 1}
    unresolved, exact = ~reference.resolved, reference.standard_error
    return Comparison(family, dimension, divergences, of_kind, errors, sizes, unresolved, exact)


def _run(
    method: ComparedMethod,
    problems: Problems,
    reference: Reference,
    count: int,
    progress: Callable[[int, int], None],
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return divergence, log evidence and sample efficiency of the first `count` problems."""
    divergences: list[Tensor] = []
    answers: list[MethodAnswer] = []
    for index in torch.split(torch.arange(count), method.batch):
        some = rows(problems, index)
        answer = method.respond(some.prior, some.observations, int(index[0]))
        found = reference.rows(index).divergence(answer.log_density, answer.kernels)
        divergences.append(torch.nan_to_num(found, nan=math.inf, posinf=math.inf))
        answers.append(answer)
        progress(int(index[-1]) + 1, count)
    evidence = [answer.log_evidence for answer in answers if answer.log_evidence is not None]
    sizes = [answer.sample_efficiency for answer in answers if answer.sample_efficiency is not None]
    return torch.cat(divergences), _whole(evidence), _whole(sizes)


def _whole(parts: list[Tensor]) -> Tensor | None:
    return torch.cat(parts) if parts else None
