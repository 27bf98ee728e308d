"""Checks of what a problem's functions return: shapes, and simulated data within their domains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from beliefstream.inference.likelihood.problems import Domain, ProblemError, check_datum


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
    unusual = _outside(found, domain)
    if bool(unusual.any()):
        try:
            check_datum(name, float(found[unusual][0]), domain)
        except ValueError as error:
            raise ProblemError(f"simulate: {label}: {error}") from error
    return found


def _outside(values: Tensor, domain: Domain) -> Tensor:
    """Which values lie outside their domain."""
    if domain == "count":
        return (values < 0) | (values != values.floor())
    if domain == "binary":
        return (values != 0) & (values != 1)
    if domain == "unit":
        return (values < 0) | (values > 1)
    return values <= 0 if domain == "positive" else torch.zeros_like(values, dtype=torch.bool)
