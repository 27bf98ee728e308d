"""Functions of the user as Taylor polynomials of the second order, which compiled code can evaluate.

PyTorch takes a millisecond or more for the derivatives of a function at one point, and a closed form needs them after
each observation. Where a function hardly differs from its polynomial, one expansion serves all of them.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from beliefstream.inference.likelihood.measurement_functions import Functions, Measurement, Program
from beliefstream.inference.likelihood.native_functions import TAYLOR
from beliefstream.inference.likelihood.native_observations import own_arguments
from beliefstream.inference.likelihood.observations import Observations

# of a polynomial, in units of the noise: at two standard deviations, so an eighth of it at one
LARGEST_ERROR = 0.03


def with_polynomials(observations: Observations, points: Tensor) -> Observations:
    """Return the observations with functions of the user expanded at `points` ``(B, D)``, one for each entity."""
    functions = observations.functions
    assert functions is not None
    programs, relative = list(functions.programs), observations.relative(points[:, None])
    expanded = []
    for program, row, column, (states, parameters) in own_arguments(observations, relative):
        value, gradient, hessian = program.derivatives(states, parameters)
        flat = torch.cat([gradient, hessian.flatten(1), states, value[:, None]], 1)
        count = torch.tensor([program.rows, flat.shape[1]]).expand(len(row), -1)
        expanded.append((row, column, torch.cat([count, flat], 1)))
        programs[functions.programs.index(program)] = _polynomial(program)
    width = max([functions.parameters.shape[-1], *(each.shape[1] for _, _, each in expanded)])
    table = functions.parameters.new_zeros(*functions.index.shape, width)
    table[..., : functions.parameters.shape[-1]] = functions.parameters
    for row, column, each in expanded:
        table[row, column, : each.shape[1]] = each
    return replace(observations, functions=Functions(tuple(programs), functions.index, table))


def _polynomial(program: Program) -> Program:
    rows = program.rows
    layout = (("gradient", (rows,)), ("hessian", (rows, rows)), ("origin", (rows,)), ("value", ()))
    measurement = Measurement(TAYLOR.name, TAYLOR, program.measurement.angle)
    return Program(measurement, rows, layout)


def are_near(known: Observations, observations: Observations, points: Tensor, present: Tensor) -> Tensor:
    """Whether polynomials differ from the functions by at most `LARGEST_ERROR`, ``(B,)`` bool.

    At `points` ``(B, K, P, D)`` of the components that are `present` ``(B, K)``.
    """
    flat, deviation = points.flatten(1, 2), observations.standard_deviation
    if (mixture := observations.mixture) is not None:
        deviation = deviation * torch.where(mixture.log_weights > -torch.inf, mixture.ratio, 1.0).amin(-1)
    off = (known.difference(flat) - observations.difference(flat)).abs() / deviation[:, None]
    matters = observations.mask[:, None, None] & present[:, :, None, None]
    return (~matters | (off.view(*points.shape[:3], -1) <= LARGEST_ERROR)).flatten(1).all(1)
