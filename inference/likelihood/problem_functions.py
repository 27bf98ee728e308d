"""A problem as a function of two vectors: coordinates of the state, and the numbers of an observation.

Values and derivatives are by PyTorch's autograd, in the problem's own batches. Every call checks the shape of what the
problem's functions return.

In a batch of observations, each problem is evaluated once. Near a state, a log likelihood ℓ acts as a Gaussian one
with its gradient g and the information ``M = |−∇²ℓ|``: the Hessian with its eigenvalues made positive, in the frame of
the caller. So a step ``(A + M)⁻¹ g`` with a prior precision A leads uphill even where ℓ is convex (Y. Dauphin et al.,
"Identifying and Attacking the Saddle Point Problem in High-Dimensional Non-Convex Optimization", NeurIPS 2014, section
5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from beliefstream.inference.likelihood.measurement_functions import FAILURES
from beliefstream.inference.likelihood.problems import (
    ONE,
    Domain,
    ExplicitProblem,
    Numbers,
    Problem,
    ProblemError,
    Rows,
    Support,
    by_length,
    check_datum,
    check_names,
    checked_column,
    name_of,
    one_number_a_case,
    rows_of,
    to_support,
)
from beliefstream.inference.mixtures import linear_algebra as la

IMPOSSIBLE = -1e10  # log likelihood that stands for minus infinity where arithmetic goes on
_STEEP, _FAR = 1e12, 1e12  # limits of a derivative, and of a squared residual
_TRIED = 8  # cases with which a problem is tried before it is used
Derivatives = tuple[Tensor, Tensor, Tensor]


class Learned(Protocol):
    """A likelihood that was learned from a problem's simulator, as `learned.network.LearnedLikelihood`."""

    def __call__(self, coordinates: Tensor, numbers: Tensor) -> Tensor:
        """Log likelihood ``(M,)`` at `coordinates` ``(M, n)`` of observations `numbers` ``(M, Q)``."""

    @property
    def digest(self) -> str:
        """What identifies its weights."""

    @property
    def expected_error(self) -> float:
        """KL(simulator ‖ learned) of one observation, on average over the training, in nats."""

    @property
    def low(self) -> Tensor:
        """Lowest coordinates of the training, then lowest context."""

    @property
    def high(self) -> Tensor:
        """Highest coordinates of the training, then highest context."""

    def distance_of(self, numbers: Tensor) -> float:
        """How far an observation's `numbers` ``(Q,)`` lie outside those of the training, in widths; 0 inside."""


@dataclass(frozen=True, eq=False)
class ProblemFunction:
    """A problem with the order of its names; observations of one problem are evaluated together.

    An observation's numbers are its data, row by row, then its context, in the problem's order. Where `learned` is
    given, it replaces the problem's `log_likelihood`.
    """

    problem: Problem
    parameters: tuple[tuple[str, Support], ...]
    data: tuple[tuple[str, Domain], ...]
    context: tuple[str, ...]
    learned: Learned | None = None
    rows: Rows = ONE
    _trials: list[bool] = field(default_factory=list, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ProblemFunction):
            return False
        return self.problem is other.problem and self.learned is other.learned

    def __hash__(self) -> int:
        return id(self.problem)  # a problem of the user need not be hashable

    @classmethod
    def of(cls, problem: Problem, learned: Learned | None = None) -> ProblemFunction:
        """Check the problem's names; raises ProblemError."""
        check_names(problem)
        kinds = tuple(problem.parameters.items()), tuple(problem.data.items())
        rows = rows_of(getattr(problem, "rows", None), len(problem.data))
        return cls(problem, *kinds, tuple(problem.context), learned, rows)

    @property
    def name(self) -> str:
        return name_of(self.problem)

    @property
    def is_learned(self) -> bool:
        """Whether the likelihood was learned from the simulator, here or by the problem's own account."""
        return self.learned is not None or bool(getattr(self.problem, "is_learned", False))

    @property
    def has_likelihood(self) -> bool:
        """Whether there is a likelihood, given or learned."""
        return self.learned is not None or isinstance(self.problem, ExplicitProblem)

    @property
    def has_features(self) -> bool:
        """Whether the problem says what its data depend on."""
        return getattr(self.problem, "features", None) is not None

    @property
    def number_names(self) -> tuple[str, ...]:
        """Names of an observation's numbers, in order: data row by row, then context."""
        names = [name for name, _ in self.data]
        if self.rows == ONE:
            return (*names, *self.context)
        return (*(f"{name} {row + 1}" for row in range(self.rows.most) for name in names), *self.context)

    @property
    def data_length(self) -> int:
        """Number of data in the longest report."""
        return len(self.data) * self.rows.most

    def _parameters(self, coordinates: Tensor) -> Numbers:
        columns = coordinates.unbind(-1)
        return {
            name: to_support(column, kind)
            for (name, kind), column in zip(self.parameters, columns, strict=True)
        }

    def _evaluated(self, coordinates: Tensor, numbers: Tensor) -> Tensor:
        """What the problem, or the learned likelihood, returns."""
        if self.learned is not None:
            return self.learned(coordinates, numbers)
        if not isinstance(self.problem, ExplicitProblem):
            raise ProblemError(f"log_likelihood: {self.name} has none, and no learned one is given")
        if self.rows == ONE:
            return self._explicit(self.problem, coordinates, numbers, numbers[:, None, : len(self.data)])
        data = numbers[:, : self.data_length].view(len(numbers), self.rows.most, -1)
        found = coordinates.new_zeros(len(numbers))
        for length, which in by_length(self.rows.lengths(numbers[:, : self.data_length])):
            part = self._explicit(self.problem, coordinates[which], numbers[which], data[which, :length])
            part = one_number_a_case(part, len(which), f"log_likelihood: {self.name}")
            found = found.index_put((which,), part.to(found.dtype))
        return found

    def _explicit(
        self, problem: ExplicitProblem, coordinates: Tensor, numbers: Tensor, rows: Tensor
    ) -> Tensor:
        """The problem's own log likelihood of `rows` ``(M, n, m)``."""
        columns = (rows[:, 0] if self.rows == ONE else rows).unbind(-1)
        data = {name: column for (name, _), column in zip(self.data, columns, strict=True)}
        context = self._context(numbers[:, self.data_length :])
        return problem.log_likelihood(data, self._parameters(coordinates), context)

    def _context(self, numbers: Tensor) -> Numbers:
        return dict(zip(self.context, numbers.unbind(-1), strict=True)) if self.context else {}

    def features(self, coordinates: Tensor, context: Tensor) -> Tensor:
        """The problem's `features` ``(M, F)``, or coordinates and context themselves if it has none.

        Raises ProblemError if the function fails, or its result has another shape.
        """
        if (function := getattr(self.problem, "features", None)) is None:
            return torch.cat([coordinates, context], -1)
        label = f"features: {self.name}"
        with _own_code(label):
            found = function(self._parameters(coordinates), self._context(context))
        if not isinstance(found, Mapping) or not found:
            raise ProblemError(f"{label} must return numbers by name, got {type(found).__name__}")
        columns = [one_number_a_case(each, len(coordinates), label) for each in found.values()]
        return torch.stack(columns, -1).to(coordinates.dtype)

    def log_likelihood(self, coordinates: Tensor, numbers: Tensor) -> Tensor:
        """Log likelihood ``(M,)`` at `coordinates` ``(M, n)`` of observations `numbers` ``(M, Q)``.

        NaN and plus infinity become minus infinity, as no evidence for such a state. The problem is not asked about
        coordinates that are not finite.

        Raises ProblemError if the problem has no log likelihood, if it fails, or if its result has another shape.
        """
        finite = coordinates.isfinite().all(-1)
        coordinates = torch.where(finite[:, None], coordinates, 0.0)
        label = f"log_likelihood: {self.name}"
        with _own_code(label):
            found = self._evaluated(coordinates, numbers)
        found = one_number_a_case(found, len(coordinates), label)
        found = found.to(coordinates.dtype)
        return torch.where(finite & ~found.isnan() & ~found.isposinf(), found, -torch.inf)

    def derivatives(self, coordinates: Tensor, numbers: Tensor) -> Derivatives:
        """Log likelihoods ``(M,)``, gradients ``(M, n)`` and Hessians ``(M, n, n)`` in the coordinates.

        A derivative that is not finite counts as zero, as it gives no direction to go.
        """
        size = coordinates.shape[-1]
        with torch.inference_mode(False), torch.enable_grad():
            at = coordinates.clone().requires_grad_()
            value = self.log_likelihood(at, numbers.clone())
            hessian = torch.zeros(len(at), size, size, dtype=at.dtype, device=at.device)
            gradient = torch.zeros_like(at)
            if value.requires_grad:
                gradient = _derivative(value, at)
                for axis in range(size if gradient.requires_grad else 0):
                    hessian[:, axis] = _derivative(gradient[:, axis], at).detach()
        gradient, hessian = (_finite(part.detach()) for part in (gradient, hessian))
        return value.detach(), gradient, (hessian + hessian.mT) / 2

    def simulate(self, coordinates: Tensor, context: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the data ``(M, m)`` of cases with `coordinates` ``(M, n)`` and `context` ``(M, c)``.

        Raises ProblemError if the simulator fails, or returns another shape, a NaN or a value outside its domain.
        """
        with _own_code(f"simulate: {self.name}"):
            drawn = self.problem.simulate(self._parameters(coordinates), self._context(context), generator)
        shape = (len(coordinates),) if self.rows == ONE else (len(coordinates), self.rows.most)
        columns = [checked_column(drawn, name, domain, shape, self.name) for name, domain in self.data]
        return torch.stack(columns, -1).reshape(len(coordinates), -1).to(coordinates.dtype)

    def check_numbers(self, numbers: Sequence[float]) -> None:
        """Check an observation's numbers; raises ValueError, with the name, for one outside its domain."""
        for i, value in enumerate(numbers[: self.data_length]):
            name, domain = self.data[i % len(self.data)]
            if not (self.rows != ONE and math.isnan(value)):  # a row that the report lacks
                check_datum(name, value, domain)

    def check_context(self, context: Sequence[float]) -> None:
        """Try the problem with the first context that comes; raises ProblemError as `tried` does."""
        if not self._trials:
            self.tried(context)
            self._trials.append(True)

    def tried(self, context: Sequence[float]) -> ProblemFunction:
        """The function itself, after a trial of the simulator and of the log likelihood with that context.

        Raises ProblemError.
        """
        generator = torch.Generator().manual_seed(0)
        coordinates = torch.randn(_TRIED, len(self.parameters), dtype=torch.float64, generator=generator)
        known = torch.tensor(list(context), dtype=torch.float64).expand(_TRIED, -1)
        data = self.simulate(coordinates, known, generator)
        if self.has_likelihood:
            value, _, _ = self.derivatives(coordinates, torch.cat([data, known], -1))
            if not bool(value.isfinite().any()):
                raise ProblemError(
                    f"log_likelihood: {self.name} finds none of {_TRIED} data of its own simulator possible"
                )
        return self


@contextmanager
def _own_code(label: str) -> Iterator[None]:
    """Turn whatever the user's code inside raises into a ProblemError that begins with `label`."""
    try:
        yield
    except ProblemError:
        raise
    except FAILURES as error:
        raise ProblemError(f"{label} failed: {type(error).__name__}: {error}") from error


def _derivative(value: Tensor, at: Tensor) -> Tensor:
    """Derivative of each value by its own case ``(M, n)``; zero where there is none."""
    if not value.requires_grad:
        return torch.zeros_like(at)
    (found,) = torch.autograd.grad(value.sum(), at, create_graph=True, materialize_grads=True)
    return found


def _finite(tensor: Tensor) -> Tensor:
    return torch.nan_to_num(tensor, nan=0.0, posinf=0.0, neginf=0.0)


class Quadratic(NamedTuple):
    """Log likelihoods near a state, in the caller's frame; zero where an observation has no problem."""

    value: Tensor  # exact, (B, P, N)
    gradient: Tensor  # (B, P, N, d)
    information: Tensor  # (B, P, N, d, d)

    @property
    def squared(self) -> Tensor:
        """Squared distance to the peak of the Gaussian, in its deviations, along the gradient; ``(B, P, N)``."""
        size = la.squared_norm(self.gradient)
        along = la.quadratic(self.information, self.gradient, self.gradient)
        return torch.where(size > 0, size.square() / along.clamp_min(1e-300), 0.0).clamp(max=_FAR)


@dataclass(frozen=True)
class Likelihoods:
    """Assigns to each observation a problem whose parameters are ``u = A x − a``.

    Attributes:
        functions: the distinct problems.
        index: ``(B, N)`` int64, the observation's problem; −1 if it has none.
        numbers: data and context ``(B, N, Q)``, padded with zeros.
    """

    functions: tuple[ProblemFunction, ...]
    index: Tensor
    numbers: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Likelihoods:
        """Apply `change` to every tensor."""
        return replace(self, index=change(self.index), numbers=change(self.numbers))

    @cached_property
    def present(self) -> Tensor:
        """Which observations have a problem, ``(B, N)`` bool."""
        return self.index >= 0

    @cached_property
    def _places(self) -> list[tuple[ProblemFunction, Tensor, Tensor]]:
        found = []
        for number, function in enumerate(self.functions):
            row, column = torch.nonzero(self.index == number, as_tuple=True)
            if len(row):
                found.append((function, row, column))
        return found

    def _arguments(
        self, function: ProblemFunction, row: Tensor, column: Tensor, relative: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Coordinates ``(M P, n)`` and numbers ``(M P, q)`` of one problem's ``M`` observations."""
        size, count = len(function.parameters), len(function.number_names)
        at = relative[row, :, column][..., :size]
        numbers = self.numbers[row, column][:, None, :count].expand(-1, at.shape[1], -1)
        return at.reshape(-1, size), numbers.reshape(-1, count)

    def values(self, relative: Tensor) -> Tensor:
        """Log likelihoods at ``u`` ``(B, P, N, R)``; ``(B, P, N)``, zero where there is no problem."""
        result = relative.new_zeros(relative.shape[:3])
        for function, row, column in self._places:
            with torch.no_grad():
                value = function.log_likelihood(*self._arguments(function, row, column, relative))
            result[row, :, column] = value.view(len(row), -1)
        return result

    def quadratic(self, relative: Tensor, matrix: Tensor) -> Quadratic:
        """Values and derivatives; `matrix` ``(B, P, N, R, d)`` is the derivative of ``u`` in the caller's frame."""
        size = matrix.shape[-1]
        value = relative.new_zeros(relative.shape[:3])
        slope = relative.new_zeros(*relative.shape[:3], size)
        bend = relative.new_zeros(*relative.shape[:3], size, size)
        for function, row, column in self._places:
            found, gradient, hessian = function.derivatives(*self._arguments(function, row, column, relative))
            shape, width = (len(row), relative.shape[1]), gradient.shape[-1]
            inner = matrix[row, :, column][..., :width, :]
            value[row, :, column] = found.view(shape)
            slope[row, :, column] = _bounded(gradient.view(*shape, 1, width) @ inner)[..., 0, :]
            hessian = inner.mT @ hessian.view(*shape, width, width) @ inner
            bend[row, :, column] = absolute(_bounded(hessian))
        return Quadratic(value, slope, bend)


def absolute(matrix: Tensor) -> Tensor:
    """A symmetric ``(..., d, d)`` with its eigenvalues made positive."""
    if matrix.shape[-1] == 1:
        return matrix.abs()
    values, vectors = torch.linalg.eigh(matrix)
    return la.symmetrise((vectors * values.abs()[..., None, :]) @ vectors.mT)


def _bounded(tensor: Tensor) -> Tensor:
    return torch.nan_to_num(tensor, nan=0.0).clamp(-_STEEP, _STEEP)


def smoothed(log_likelihoods: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the mean likelihood over the last dimension, and the variance of the log likelihood there."""
    mean = torch.logsumexp(log_likelihoods, -1) - math.log(log_likelihoods.shape[-1])
    return mean, log_likelihoods.var(-1, correction=0)
