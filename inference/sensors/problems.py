"""Sensors with a likelihood of their own: a problem, its parameters among the state's coordinates, its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from beliefstream.inference.likelihood.noise import Array
from beliefstream.inference.likelihood.observations import LIKELIHOOD
from beliefstream.inference.likelihood.problem_functions import Learned, ProblemFunction
from beliefstream.inference.likelihood.problems import ONE, Problem
from beliefstream.inference.sensors.checks import selection
from beliefstream.inference.sensors.readings import Sensor


def of_problem(
    problem: Problem,
    axes: Mapping[str, int],
    dimension: int,
    value: Sequence[str] | None = None,
    context: Mapping[str, float] | None = None,
    learned: Learned | None = None,
) -> Sensor:
    """Make a sensor whose reports have the likelihood of `problem`.

    Args:
        problem: see `inference.likelihood.problems`.
        axes: index of the coordinate that stands for each parameter. The coordinate of a positive parameter is its
            logarithm, that of a parameter in the unit interval its log odds.
        dimension: number of coordinates of the state.
        value: names of the reported numbers, in order: all data, and context that changes; None for the data alone.
            Where a report has rows, the data come last: as many times as it has rows.
        context: the rest of the context, by name.
        learned: its likelihood; without it the problem needs a `log_likelihood`.

    Raises:
        ValueError: a name is missing, unknown or given twice, or the problem fails when it is tried.
    """
    function = ProblemFunction.of(problem, learned)
    if not function.has_likelihood:
        raise ValueError(f"log_likelihood: {function.name} has none")
    wanted = [name for name, _ in function.parameters]
    if set(axes) != set(wanted):
        raise ValueError(f"parameters: {function.name} has {wanted}, got {list(axes)}")
    reported = [name for name, _ in function.data] if value is None else list(value)
    numbers = _numbers(function, reported, dict(context or {}))
    known = numbers[function.data_length :]
    if not np.isnan(known).any():  # else a report brings the rest: nothing to try the problem with
        function.tried(known.tolist())
    return Sensor(
        LIKELIHOOD,
        selection([axes[name] for name in wanted], dimension),
        np.zeros(len(wanted)),
        np.eye(1),
        parameters=numbers,
        problem=function,
        reported=_places(function, reported),
    )


def _places(function: ProblemFunction, reported: list[str]) -> tuple[int, ...]:
    """Places of the reported values among the numbers; those of the data repeat with the rows of a report."""
    data, length = [name for name, _ in function.data], function.data_length
    names = [*data, *[""] * (length - len(data)), *function.context]
    places = [names.index(name) for name in reported]
    if function.rows == ONE:
        return tuple(places)
    columns = places[-len(data) :]
    if max(columns) >= len(data):
        raise ValueError(f"value: the data of {function.name} have rows, so they come last, got {reported}")
    rows = range(function.rows.most)
    return (*places[: -len(data)], *(row * len(data) + column for row in rows for column in columns))


def _numbers(function: ProblemFunction, reported: list[str], known: dict[str, float]) -> Array:
    """The numbers of an observation, ``(Q,)``: those that are `known`, and NaN for those that are `reported`."""
    data = [name for name, _ in function.data]
    names = [*data, *function.context]
    given = [*reported, *known]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise ValueError(f"value: {function.name} knows {list(names)}, got {', '.join(unknown)}")
    repeated = sorted({name for name in given if given.count(name) > 1})
    if repeated:
        raise ValueError(f"value: {', '.join(repeated)} of {function.name} given more than once")
    silent = [name for name in data if name not in reported]
    if silent:
        raise ValueError(f"value: must report {', '.join(silent)}, the data of {function.name}")
    missing = [name for name in function.context if name not in given]
    if missing:
        raise ValueError(
            f"context: {function.name} needs {', '.join(missing)}, in the context or in the value"
        )
    numbers = np.full(len(function.number_names), math.nan)
    for name, number in known.items():
        if not math.isfinite(number):
            raise ValueError(f"context: {name} must be finite, got {number}")
        numbers[function.data_length + function.context.index(name)] = number
    return numbers
