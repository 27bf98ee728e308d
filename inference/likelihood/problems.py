"""Problems: a likelihood of your own, given by a simulator and, where it is known, by its log density.

A problem names its parameters with their supports, its data and its context. Context is what is known beside the
data: the place of a counter, an exposure. All arguments are mappings from these names to tensors ``(M,)``, one number
for each of ``M`` cases, so that ``parameters["x"] - context["x0"]`` is a vector of ``M`` differences.

    class Counter:
        parameters = {"x": "real", "strength": "positive"}
        data = {"count": "count"}
        context = ("x0",)

        def rate(self, parameters, context):
            return parameters["strength"] / (1 + (parameters["x"] - context["x0"]) ** 2)

        def simulate(self, parameters, context, generator):
            return {"count": torch.poisson(self.rate(parameters, context), generator=generator)}

        def log_likelihood(self, data, parameters, context):
            return torch.distributions.Poisson(self.rate(parameters, context)).log_prob(data["count"])

Without a `log_likelihood`, one is learned from the simulator (`inference.training.likelihood`). That needs `ranges`:
the lowest and the highest value of each parameter and each context number, or one number for a context of one value.

    ranges = {"x": (-10, 10), "strength": (1, 100), "x0": 0}

Where the data depend on parameters and context through fewer numbers, ``features(parameters, context)`` returns these
by name. The network is then given them alone, and learns faster: ``{"distance": ..., "strength": ...}``.

A problem whose `log_likelihood` is itself an approximation, learned from its simulator, has ``is_learned = True``. It
may say its ``expected_error``, in nats an observation.

Reports may have several rows of the data: ``rows = ("set", 8)`` or ``rows = ("sequence", 8)`` for 1 to 8 of them.
Then each datum is a tensor ``(M, n)`` of n rows. `simulate` draws the longest report; its first n rows are a report of
n rows, so the number of rows says nothing of the parameters. `log_likelihood` gets reports of equal length. That of a
set does not depend on the order of its rows. As numbers of an observation, rows that a report lacks are NaN.

A state has real coordinates. A coordinate y stands for the parameter ``y`` (real), ``exp(y)`` (positive) or
``1 / (1 + exp(−y))`` (unit). So a belief over the coordinates is a belief over the parameters of any support.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

Kind = Literal["one", "set", "sequence"]
MOST_NUMBERS = 64  # data of one report


class Rows(NamedTuple):
    """Kind and largest number of rows of a report."""

    kind: Kind = "one"
    most: int = 1

    def lengths(self, data: Tensor) -> Tensor:
        """Number of rows ``(M,)`` of reports whose data are ``(M, most · m)``."""
        first = data[:, :: data.shape[1] // self.most]
        return (~first.isnan()).sum(1)


ONE = Rows()


def rows_of(stated: Any, data: int) -> Rows:
    """Read the attribute `rows` of a problem with so many `data` in a row; None is one row.

    Raises ValueError if it is something else.
    """
    if stated is None:
        return ONE
    pair = isinstance(stated, (tuple, list)) and len(stated) == 2
    if not pair or stated[0] not in ("set", "sequence") or type(stated[1]) is not int:
        raise ValueError(f'needs ("set" or "sequence", the largest number), got {stated!r}')
    if not 2 <= stated[1] <= MOST_NUMBERS // data:
        raise ValueError(f"needs from 2 to {MOST_NUMBERS // data} rows of {data} data, got {stated[1]}")
    return Rows(stated[0], stated[1])


def padded(value: list[float], rows: Rows, context: int, data: int) -> list[float]:
    """A report of `context` numbers and rows of `data` numbers, filled up with NaN to the most rows.

    Raises ValueError if the rows are not whole, or if there are none or too many.
    """
    count, rest = divmod(len(value) - context, data)
    if rest or not 1 <= count <= rows.most:
        before = f"{context} numbers, then " if context else ""
        raise ValueError(f"{before}1 to {rows.most} rows of {data} data expected, got {len(value)} numbers")
    return [*value, *[float("nan")] * (data * (rows.most - count))]


def by_length(lengths: Tensor) -> list[tuple[int, Tensor]]:
    """Each length that occurs, with the indices of its reports."""
    return [(int(n), torch.nonzero(lengths == n)[:, 0]) for n in torch.unique(lengths)]


Support = Literal["real", "positive", "unit"]
Domain = Literal["real", "positive", "unit", "count", "binary"]
Numbers = Mapping[str, Tensor]

_LARGEST_EXPONENT = 80.0  # of a positive parameter: its square is finite in all float types but float16
MOST_NAMES = 32  # of parameters, of data and of context


@runtime_checkable
class Problem(Protocol):
    """What a problem has at least."""

    @property
    def parameters(self) -> Mapping[str, Support]:
        """Names and supports of the parameters."""

    @property
    def data(self) -> Mapping[str, Domain]:
        """Names and domains of the numbers that are observed."""

    @property
    def context(self) -> Sequence[str]:
        """Names of the numbers that are known beside the data; may be empty."""

    def simulate(self, parameters: Numbers, context: Numbers, generator: torch.Generator) -> Numbers:
        """Draw the data of ``M`` cases; all numbers are ``(M,)``. Chance may only come from `generator`."""


@runtime_checkable
class ExplicitProblem(Problem, Protocol):
    """A problem whose likelihood is known."""

    def log_likelihood(self, data: Numbers, parameters: Numbers, context: Numbers) -> Tensor:
        """Log density, or log probability, of the data of each case, ``(M,)``; minus infinity where impossible.

        It is differentiated by the parameters, so it uses PyTorch's functions.
        """


class ProblemError(ValueError):
    """A problem that breaks its protocol, or whose functions fail."""


def name_of(problem: Problem) -> str:
    """The problem's class, as ``module:Name``."""
    return f"{type(problem).__module__}:{type(problem).__qualname__}"


def check_names(problem: Problem) -> None:
    """Check what a problem says of itself.

    Raises ProblemError, with the attribute and its value, if something is missing or unknown, or if two names agree.
    """
    label = name_of(problem)
    for attribute in ("parameters", "data", "context", "simulate"):
        if not hasattr(problem, attribute):
            raise ProblemError(f"problem: {label} has no {attribute}")
    if not callable(problem.simulate):
        raise ProblemError(f"simulate: {label} needs a function, got {problem.simulate!r}")
    for attribute, known in (("parameters", get_args(Support)), ("data", get_args(Domain))):
        kinds = getattr(problem, attribute)
        if not isinstance(kinds, Mapping) or not kinds:
            raise ProblemError(f"{attribute}: {label} needs names with their kinds, got {kinds!r}")
        for name, kind in kinds.items():
            if kind not in known:
                raise ProblemError(
                    f"{attribute}: {name} of {label} must be one of {list(known)}, got {kind!r}"
                )
    if isinstance(problem.context, str):
        raise ProblemError(f"context: {label} needs a tuple of names, got {problem.context!r}")
    names = [*problem.parameters, *problem.data, *problem.context]
    for name in names:
        if not isinstance(name, str) or not name.isidentifier():
            raise ProblemError(f"names: {label} needs names like those of variables, got {name!r}")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ProblemError(f"names: {label} has {', '.join(repeated)} more than once")
    for attribute in ("parameters", "data", "context"):
        if len(getattr(problem, attribute)) > MOST_NAMES:
            raise ProblemError(f"{attribute}: {label} has more than {MOST_NAMES} names")
    try:
        rows_of(getattr(problem, "rows", None), len(problem.data))
    except ValueError as error:
        raise ProblemError(f"rows: {label} {error}") from error


def to_support(coordinate: Tensor, support: Support) -> Tensor:
    """The parameter that a real coordinate of the state stands for."""
    if support == "positive":
        return coordinate.clamp(-_LARGEST_EXPONENT, _LARGEST_EXPONENT).exp()
    return torch.sigmoid(coordinate) if support == "unit" else coordinate


def from_support(parameter: float, support: Support) -> float:
    """The coordinate of a parameter; raises ValueError if it lies outside its support."""
    inside = math.isfinite(parameter) and (support != "positive" or parameter > 0)
    if not inside or (support == "unit" and not 0 < parameter < 1):
        raise ValueError(f"parameter: must be {support}, got {parameter}")
    if support == "positive":
        return math.log(parameter)
    return math.log(parameter / (1 - parameter)) if support == "unit" else parameter


_OUTSIDE: Mapping[Domain, Callable[[Any], Any]] = {
    "real": lambda values: values != values,
    "positive": lambda values: values <= 0,
    "unit": lambda values: (values < 0) | (values > 1),
    "count": lambda values: (values < 0) | (values % 1 != 0),
    "binary": lambda values: (values != 0) & (values != 1),
}
"""Whether finite numbers lie outside a domain: of one, or of a tensor of them."""


def check_datum(name: str, value: float, domain: Domain) -> None:
    """Check one observed number; raises ValueError, with its name, if it lies outside its domain."""
    if not math.isfinite(value) or _OUTSIDE[domain](value):
        wanted = {"count": "a whole number from 0 on", "binary": "0 or 1", "unit": "between 0 and 1"}
        raise ValueError(f"{name}: must be {wanted.get(domain, f'a {domain} number')}, got {value:g}")


def one_number_a_case(found: Any, cases: int, label: str) -> Tensor:
    """The tensor `found` if it has the shape ``(cases,)``; raises ProblemError, which begins with `label`."""
    if isinstance(found, Tensor) and found.shape == (cases,):
        return found
    got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    raise ProblemError(
        f"{label} must return one number for each of {cases} cases, a tensor of shape ({cases},), got {got}"
    )


def checked_column(drawn: Any, name: str, domain: Domain, shape: tuple[int, ...], label: str) -> Tensor:
    """One of the simulated numbers, of that shape.

    Raises ProblemError, with the names of problem and number, if it is missing, of another shape, not finite or
    outside its domain.
    """
    if not isinstance(drawn, Mapping) or not isinstance(drawn.get(name), Tensor):
        got = list(drawn) if isinstance(drawn, Mapping) else type(drawn).__name__
        raise ProblemError(f"simulate: {label} must return a tensor named {name}, got {got}")
    found: Tensor = drawn[name]
    if found.shape != shape:
        raise ProblemError(f"simulate: {name} of {label} must have shape {shape}, got {tuple(found.shape)}")
    finite = found.isfinite()
    if not bool(finite.all()):
        raise ProblemError(f"simulate: {name} of {label} is not finite: {float(found[~finite][0])}")
    unusual = _OUTSIDE[domain](found)
    if bool(unusual.any()):
        try:
            check_datum(name, float(found[unusual][0]), domain)
        except ValueError as error:
            raise ProblemError(f"simulate: {label}: {error}") from error
    return found
