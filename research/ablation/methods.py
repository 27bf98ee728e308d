"""The methods of the update that can be left out, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Seen
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.tracking import closed_steps, native_bent_steps
from beliefstream.inference.tracking.native_bent_steps import Answers
from beliefstream.inference.update import network, quadrature
from beliefstream.inference.update.check.local_problem import LocalProblem
from beliefstream.inference.update.network import ThoroughNetwork
from beliefstream.inference.update.result import Update

Replaced = tuple[object, str, Callable[..., Any]]
"""A module or class, the name of a function in it, and what takes its place."""


def _nothing(*_: Any) -> tuple[()]:
    """No problem is solved."""
    return ()


def _leave(*_: Any) -> None:
    """No step is solved."""


def _none_chosen(prior: Numbers, _: Seen, at: NDArray[np.int64], *__: Any) -> Answers:
    """No step is solved by this method; others may solve it."""
    none, numbers, method = np.zeros(0, np.int64), np.zeros((len(at), 2)), np.zeros(len(at), np.int64)
    return Answers(at, none, prior, numbers, method)


def _same_answer(
    _: ThoroughNetwork, __: LocalProblem, ___: GaussianMixture, now: Update, ____: Any
) -> Update:
    return now


def _same_peaks(_: GaussianMixture, __: Observations, peaks: Any) -> Any:
    return peaks


METHODS: dict[str, tuple[Replaced, ...]] = {
    "plane, around a sensor": (
        (quadrature, "around_sensor", _nothing),
        (native_bent_steps, "_in_plane", _none_chosen),
    ),
    "plane, cells": ((quadrature, "in_one", _nothing),),
    "quadrature along an observation": (
        (quadrature, "follow", _nothing),
        (native_bent_steps, "_along", _none_chosen),
    ),
    "Gauss-Hermite": ((quadrature, "_weak", _nothing),),
    "bent steps in compiled code": ((closed_steps, "follow", _leave),),
    "refinement": ((ThoroughNetwork, "_moved", _same_answer),),
    "points along the posterior": ((ThoroughNetwork, "_along", ThoroughNetwork._moved),),
    "search": ((ThoroughNetwork, "_searched", _same_answer),),
    "contradictions": ((network, "with_agreeing", _same_peaks),),
}
"""What takes the place of each method, by name."""


@contextmanager
def without(method: str) -> Iterator[None]:
    """Leave one of `METHODS` out; AttributeError says that the update has it no longer."""
    with ExitStack() as stack:
        for owner, name, other in METHODS[method]:
            stack.enter_context(mock.patch.object(owner, name, other))
        yield
