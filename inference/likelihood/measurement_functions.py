"""Measurement functions: a name, a function of some coordinates of the state, and its automatic derivatives.

    @register("inverse_cube")
    def inverse_cube(state, moment):
        return moment * (state.square().sum() + 1e-12) ** -1.5

A function takes its coordinates as one tensor ``(n,)`` and its parameters by name. It returns one number, or several,
of which a sensor reports one. It is written for a single state; `torch.func` adds batches and derivatives. So it must
be smooth where states can be, and use `torch.where` in place of ``if``. Other packages offer their functions as entry
points of the group ``beliefstream.measurements``.

Built-in functions are compiled, with their derivatives written out (`native_functions`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.func import grad_and_value, jacrev, vmap

from beliefstream.inference.likelihood.native_functions import BUILT_IN, TABULATED, BuiltIn

ENTRY_POINTS = "beliefstream.measurements"
FAILURES = (Exception, SystemExit)
"""What the user's own code may raise: `sys.exit` in it must not end the program. Ctrl-C is no failure, and does."""
_TRIED = 4096  # states from 1e-4 to 1e8, where a function is tried that is not finite at ones

Function = Callable[..., Tensor]
F = TypeVar("F", bound=Function)
Derivatives = tuple[Tensor, Tensor, Tensor]


def explanation(error: BaseException) -> str:
    """What an error says, never an empty text; of `sys.exit` that it was called."""
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({'' if error.code is None else repr(error.code)})"
    return str(error) or type(error).__name__


@dataclass(frozen=True)
class Measurement:
    """A function with its name; `angle` means that it returns radians, so that residuals are wrapped."""

    name: str
    function: Function
    angle: bool = False


_registered: dict[str, Measurement] = {each.name: Measurement(each.name, each) for each in BUILT_IN}


def register(name: str, angle: bool = False) -> Callable[[F], F]:
    """Decorator that registers a function as `name`, and returns it unchanged.

    Raises ValueError if another function has that name; reloading the same function replaces it.
    """

    def decorate(function: F) -> F:
        known = _registered.get(name)
        if known is not None and _place(known.function) != _place(function):
            raise ValueError(f"name: {name!r} is {_place(known.function)} already")
        _registered[name] = Measurement(name, function, angle)
        return function

    return decorate


def _place(function: Function) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"


def find(name: str) -> Measurement:
    """The measurement of that name, registered here or by an installed package.

    Raises ValueError if there is none.
    """
    if name not in _registered:
        for entry in metadata.entry_points(group=ENTRY_POINTS, name=name):
            try:
                function = entry.load()
            except FAILURES as error:  # another package may raise anything
                reason = explanation(error)
                raise ValueError(f"function: {name!r} of {entry.value} cannot be loaded: {reason}") from error
            if name not in _registered:  # the module may have used the decorator
                register(name)(function)
    if name not in _registered:
        raise ValueError(
            f"function: no measurement is registered as {name!r}; known are {sorted(_registered)}"
        )
    return _registered[name]


def resolve(function: str | Function | Measurement, angle: bool | None = None) -> Measurement:
    """A measurement from a name, a registered function or any function; `angle` overrides the registered value."""
    if isinstance(function, str):
        found = find(function)
    elif isinstance(function, Measurement):
        found = function
    else:
        same = [known for known in _registered.values() if known.function is function]
        found = same[0] if same else Measurement(getattr(function, "__name__", "function"), function)
    return found if angle is None else Measurement(found.name, found.function, angle)


Parameters = Mapping[str, float | Sequence[float] | ArrayLike]


@dataclass(frozen=True)
class Program:
    """A measurement as a function of two vectors: ``rows`` coordinates, and its concatenated parameters.

    Sensors with the same program are evaluated together, whatever their parameters.
    """

    measurement: Measurement
    rows: int
    layout: tuple[tuple[str, tuple[int, ...]], ...]  # name and shape of each parameter
    output: int | None = None  # which number, if it returns several
    outputs: int | None = None  # how many numbers it must return; None if any number will do

    @classmethod
    def of(
        cls,
        measurement: Measurement,
        rows: int,
        parameters: Parameters,
        output: int | None,
        outputs: int | None = None,
    ) -> tuple[Program, NDArray[np.float64]]:
        """The program, and its parameters as one vector; tries it once, to find mistakes early.

        Raises ValueError if the function does not take these coordinates and parameters, does not return a number, or
        not as many as `outputs`, has no derivatives, or is not finite in any of many states.
        """
        arrays = {name: np.asarray(value, float) for name, value in sorted(parameters.items())}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise ValueError(f"parameters: {name} must be finite, got {array.tolist()}")
        layout = tuple((name, array.shape) for name, array in arrays.items())
        program = cls(measurement, rows, layout, output, outputs)
        flat = np.concatenate([np.zeros(0), *(array.ravel() for array in arrays.values())])
        try:
            program._try(torch.as_tensor(flat)[None])
        except FAILURES as error:  # a user's function may raise anything
            raise ValueError(
                f"function: {measurement.name!r} cannot be used on {rows} coordinates with parameters "
                f"{list(arrays)}: {explanation(error)}"
            ) from error
        return program, flat

    def _try(self, parameters: Tensor) -> None:
        """Raise whatever the function raises, or ValueError if it is not finite anywhere: updates would ignore it."""
        if isinstance(self.measurement.function, BuiltIn):
            self._check(self.measurement.function)
        ones = torch.ones(1, self.rows, dtype=torch.float64)
        value = self.derivatives(ones, parameters)[0]
        if value.isfinite().all():
            return
        generator = torch.Generator().manual_seed(0)
        directions = torch.randn(_TRIED, self.rows, dtype=torch.float64, generator=generator)
        states = directions * torch.logspace(-4, 8, _TRIED, dtype=torch.float64)[:, None]
        if not self.values(states, parameters.expand(_TRIED, -1)).isfinite().any():
            raise ValueError(
                f"it returns {float(value)} at {ones[0].tolist()}, and is not finite at any state tried"
            )

    def _check(self, function: BuiltIn) -> None:
        """Raise TypeError or ValueError if a built-in function does not take these arguments: it returns one number."""
        function.check(self.rows, {name: math.prod(shape) for name, shape in self.layout})
        if self.outputs is not None:
            self._as_many([torch.zeros(())])
        if self.output is not None and (self.outputs is None or self.output not in (0, -1)):
            raise ValueError(f"it returns 1 number, and has no output {self.output}")

    @property
    def code(self) -> int:
        """The code of a built-in function; `TABULATED` of a function of the user."""
        function = self.measurement.function
        return function.code if isinstance(function, BuiltIn) else TABULATED

    @property
    def size(self) -> int:
        """How many numbers its parameters have."""
        return sum(math.prod(shape) for _, shape in self.layout)

    def packed(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """The program as compiled code takes it: the number of its coordinates, that of its parameters, and these."""
        return np.concatenate([[self.rows, self.size], parameters[: self.size]])

    def __call__(self, state: Tensor, parameters: Tensor) -> Tensor:
        """Value at one state ``(rows,)``."""
        named, start = {}, 0
        for name, shape in self.layout:
            size = int(np.prod(shape))
            named[name] = parameters[start : start + size].reshape(shape)
            start += size
        value = self._returned(state, named)
        if self.outputs is not None:
            value = self._as_many(value)
        if self.output is not None:
            value = value[self.output]
        if not isinstance(value, Tensor):
            raise TypeError(f"it returns {type(value).__name__}, expected a tensor of one number")
        if value.numel() != 1:
            raise ValueError(f"it returns {value.numel()} numbers, expected 1, or as many as `outputs` says")
        return value.reshape(()).to(state.dtype)

    def _returned(self, state: Tensor, named: Mapping[str, Tensor]) -> Any:
        """What the function returns; raises RuntimeError if it calls `sys.exit`, which would end a worker."""
        try:
            return self.measurement.function(state, **named)
        except SystemExit as error:
            raise RuntimeError(f"{self.measurement.name!r}: {explanation(error)}") from error

    def _as_many(self, returned: Any) -> Tensor | Sequence[Tensor]:
        """The numbers that the function returned, in a row; raises ValueError if they are not `outputs`."""
        if isinstance(returned, Tensor):
            returned = returned.reshape(-1)
        if not isinstance(returned, (Tensor, list, tuple)):
            raise TypeError(f"it returns {type(returned).__name__}, expected a tensor of numbers")
        if (count := len(returned)) != self.outputs:
            found = f"{count} number{'s' if count != 1 else ''}"
            raise ValueError(f"it returns {found}, expected {self.outputs}, as `outputs` says")
        return returned

    @cached_property
    def _values(self) -> Callable[[Tensor, Tensor], Tensor]:
        return vmap(self.__call__)

    @cached_property
    def _derivatives(self) -> Callable[[Tensor, Tensor], tuple[Tensor, tuple[Tensor, Tensor]]]:
        def gradient(state: Tensor, parameters: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            slope, value = grad_and_value(self.__call__)(state, parameters)
            return slope, (slope, value)

        return vmap(jacrev(gradient, has_aux=True))

    def values(self, states: Tensor, parameters: Tensor) -> Tensor:
        """Values at `states` ``(M, rows)`` with `parameters` ``(M, Q)``; returns ``(M,)``."""
        if isinstance(self.measurement.function, BuiltIn):
            return self.measurement.function.evaluate(states, parameters[:, : self.size])[0]
        return self._values(states, parameters)

    def derivatives(self, states: Tensor, parameters: Tensor) -> Derivatives:
        """Values ``(M,)``, gradients ``(M, rows)`` and Hessians ``(M, rows, rows)``."""
        if isinstance(self.measurement.function, BuiltIn):
            return self.measurement.function.evaluate(states, parameters[:, : self.size])
        hessian, (gradient, value) = self._derivatives(states, parameters)
        return value, gradient, hessian


@dataclass(frozen=True)
class Functions:
    """Assigns to each observation a function of ``u = A x − a``.

    Attributes:
        programs: the distinct functions.
        index: ``(B, N)`` int64, the observation's program; −1 if it is not a function.
        parameters: as `Program.packed`, ``(B, N, 2 + Q)``, padded with zeros.
    """

    programs: tuple[Program, ...]
    index: Tensor
    parameters: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Functions:
        """Apply `change` to every tensor."""
        return replace(self, index=change(self.index), parameters=change(self.parameters))

    @cached_property
    def present(self) -> Tensor:
        """Which observations are functions, ``(B, N)`` bool."""
        return self.index >= 0

    @cached_property
    def angle(self) -> Tensor:
        """Whether the value is in radians and wraps, ``(B, N)`` bool."""
        angles = torch.tensor(
            [p.measurement.angle for p in self.programs] + [False], device=self.index.device
        )
        return angles[self.index]

    def arguments(
        self, program: Program, row: Tensor, column: Tensor, relative: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Coordinates ``(M P, rows)`` and parameters ``(M P, Q)`` of one program's ``M`` observations."""
        states = relative[row, :, column][..., : program.rows]
        parameters = self.parameters[row, column][:, None, 2:].expand(-1, states.shape[1], -1)
        return states.reshape(-1, program.rows), parameters.reshape(len(row) * states.shape[1], -1)
