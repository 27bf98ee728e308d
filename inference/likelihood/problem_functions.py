"""A problem as a function of two vectors: coordinates of the state, and the numbers of an observation.

Values and derivatives are by PyTorch's autograd, in the problem's own batches. Every call checks the shape of what the
problem's functions return.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from beliefstream.inference.likelihood.problems import (
    Domain,
    ExplicitProblem,
    Numbers,
    Problem,
    ProblemError,
    Support,
    check_datum,
    check_names,
    name_of,
    to_support,
)

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

    An observation's numbers are its data, then its context, in the problem's order. Where `learned` is given, it
    replaces the problem's `log_likelihood`.
    """

    problem: Problem
    parameters: tuple[tuple[str, Support], ...]
    data: tuple[tuple[str, Domain], ...]
    context: tuple[str, ...]
    learned: Learned | None = None
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
        return cls(problem, *kinds, tuple(problem.context), learned)

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
    def number_names(self) -> tuple[str, ...]:
        """Names of an observation's numbers, in order."""
        return (*(name for name, _ in self.data), *self.context)

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
        columns = numbers.unbind(-1)
        data = {name: column for (name, _), column in zip(self.data, columns, strict=False)}
        context = dict(zip(self.context, columns[len(self.data) :], strict=True))
        return self.problem.log_likelihood(data, self._parameters(coordinates), context)

    def log_likelihood(self, coordinates: Tensor, numbers: Tensor) -> Tensor:
        """Log likelihood ``(M,)`` at `coordinates` ``(M, n)`` of observations `numbers` ``(M, Q)``.

        NaN and plus infinity become minus infinity, as no evidence for such a state. The problem is not asked about
        coordinates that are not finite.

        Raises ProblemError if the problem has no log likelihood, if it fails, or if its result has another shape.
        """
        finite = coordinates.isfinite().all(-1)
        coordinates = torch.where(finite[:, None], coordinates, 0.0)
        try:
            found = self._evaluated(coordinates, numbers)
        except ProblemError:
            raise
        except Exception as error:  # a user's function may raise anything
            raise ProblemError(
                f"log_likelihood: {self.name} failed: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(found, Tensor) or found.shape != coordinates.shape[:1]:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ProblemError(
                f"log_likelihood: {self.name} must return one number for each of {len(coordinates)} cases, "
                f"a tensor of shape ({len(coordinates)},), got {got}"
            )
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
        known = dict(zip(self.context, context.unbind(-1), strict=True)) if self.context else {}
        try:
            drawn = self.problem.simulate(self._parameters(coordinates), known, generator)
        except Exception as error:  # a user's function may raise anything
            raise ProblemError(f"simulate: {self.name} failed: {type(error).__name__}: {error}") from error
        return torch.stack(
            [self._checked(drawn, name, domain, len(coordinates)) for name, domain in self.data], -1
        ).to(coordinates.dtype)

    def _checked(self, drawn: Numbers, name: str, domain: Domain, cases: int) -> Tensor:
        """One of the simulated numbers."""
        if not isinstance(drawn, Mapping) or not isinstance(drawn.get(name), Tensor):
            got = list(drawn) if isinstance(drawn, Mapping) else type(drawn).__name__
            raise ProblemError(f"simulate: {self.name} must return a tensor named {name}, got {got}")
        found = drawn[name]
        if found.shape != (cases,):
            raise ProblemError(
                f"simulate: {name} of {self.name} must have shape ({cases},), got {tuple(found.shape)}"
            )
        if not bool(found.isfinite().all()):
            raise ProblemError(
                f"simulate: {name} of {self.name} is not finite: {_odd(found, found.isfinite())}"
            )
        unusual = _outside(found, domain)
        if bool(unusual.any()):
            try:
                check_datum(name, float(found[unusual][0]), domain)
            except ValueError as error:
                raise ProblemError(f"simulate: {self.name}: {error}") from error
        return found

    def check_numbers(self, numbers: Sequence[float]) -> None:
        """Check an observation's numbers; raises ValueError, with the name, for one outside its domain."""
        for (name, domain), value in zip(self.data, numbers, strict=False):
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


def _derivative(value: Tensor, at: Tensor) -> Tensor:
    """Derivative of each value by its own case ``(M, n)``; zero where there is none."""
    if not value.requires_grad:
        return torch.zeros_like(at)
    (found,) = torch.autograd.grad(value.sum(), at, create_graph=True, materialize_grads=True)
    return found


def _finite(tensor: Tensor) -> Tensor:
    return torch.nan_to_num(tensor, nan=0.0, posinf=0.0, neginf=0.0)


def _outside(values: Tensor, domain: Domain) -> Tensor:
    """Which values lie outside their domain."""
    if domain == "count":
        return (values < 0) | (values != values.floor())
    if domain == "binary":
        return (values != 0) & (values != 1)
    if domain == "unit":
        return (values < 0) | (values > 1)
    return values <= 0 if domain == "positive" else torch.zeros_like(values, dtype=torch.bool)


def _odd(values: Tensor, usual: Tensor) -> float:
    return float(values[~usual][0])
