"""Likelihoods and linearisations of a batch of observations at points, compiled for the processor.

Everything is computed in double precision, one observation and point after another, and returned in the precision of
the points. Places that the mask leaves out, and problems (`problem_functions`), are zero.

The joint log likelihood takes points a block at a time, one number of each in a row, so that the compiler vectorises
all loops. An observation that may be an outlier has a sum of two exponentials. Its logarithm is taken once for all
observations of a point: of the product of ``1 + exp(-|log odds|)``, which lies between 1 and a power of two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood import native_functions
from beliefstream.inference.likelihood.measurement_functions import Program
from beliefstream.inference.likelihood.native_functions import (
    SIGNAL_STRENGTH,
    SOFT,
    TABULATED,
    value_of,
)
from beliefstream.inference.likelihood.native_terms import (
    FAR,
    LOG_WIDE,
    NO_PRODUCT,
    WIDE_OUTLIER,
    Array,
    Count,
    Seen,
    Terms,
    difference,
    linearise_at,
    log_sum,
    new_space,
    of_function,
    relative_to,
    smallest,
    spread_at,
    terms_and_deviation,
    turns,
)
from beliefstream.inference.likelihood.observation_data import (
    ANGLE,
    FUNCTION,
    LIKELIHOOD,
    LINEAR,
    ObservationData,
)
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.mixtures.native_density import (
    BLOCK,
    Block,
    add_exponential,
    new_block,
    sum_components,
)
from beliefstream.inference.mixtures.native_exponential import (
    UNDERFLOW,
    arctangent,
    logarithm,
    within_half_a_turn,
)

Shapes = tuple[Array, Array, Array, Array]
# signed and squared residual, log odds, log likelihood and deviation
Each = tuple[Array, Array, Array, Array, Array]

# observations, after which the product is taken into the sum: 2 to this power is a finite number
SEVERAL = 256
NOTHING = np.zeros((0, 0, 0))


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    native_functions.prepare()
    observations, point, factor = smallest()
    linearise(observations, point, factor)
    residuals(observations, point)
    differences(observations, point)
    log_likelihood(observations, point)
    smoothed(observations, point, factor)


def seen(observations: ObservationData) -> Seen:
    """The numbers of observations; a function of the user has none, but see `tabulated`."""
    rows, probability = observations.rows.double(), observations.outlier_probability.double()
    shape, none = observations.kind.shape, torch.zeros_like(rows)
    slope, mixture = observations.deviation_slope, observations.mixture
    codes, parameters = _functions(observations)
    return Seen(
        observations.kind.cpu().contiguous().numpy(),
        observations.mask.cpu().contiguous().numpy(),
        array(observations.value),
        array(observations.matrix),
        array(observations.origin),
        array(observations.heading),
        array(observations.standard_deviation),
        array(rows),
        array(observations.log_scale.double() + 0.5 * rows * LOG_TWO_PI),
        array(torch.log1p(-probability)),
        array(probability.log()),
        array(observations.outlier_log_density),
        array(none if slope is None else slope),
        array(none.new_zeros(*shape, 0, 3) if mixture is None else torch.stack(mixture, -1)),
        observations.wraps.cpu().contiguous().numpy(),
        codes,
        parameters,
        np.zeros(shape, np.int64) if observations.hidden is None else observations.hidden.cpu().numpy(),
        np.tile(NO_PRODUCT, (*shape, 1)) if observations.product is None else array(observations.product),
    )


def _functions(observations: ObservationData) -> tuple[NDArray[np.int64], Array]:
    """Code of each function ``(B, N)``, and its parameters ``(B, N, Q)``."""
    functions = observations.functions
    if functions is None:
        zero = np.zeros(observations.kind.shape, np.int64)
        return zero, np.zeros((*zero.shape, 1))
    codes = np.array([*(program.code for program in functions.programs), TABULATED], np.int64)
    return codes[functions.index.cpu().numpy()], array(functions.parameters)


def tabulated(observations: ObservationData, points: Tensor, derivatives: bool = True) -> Seen:
    """The numbers of observations at `points` ``(B, P, d)``, as those of ``B · P`` entities.

    PyTorch evaluates the functions of the user there: see `native_functions.TABULATED`.
    """
    numbers, count = seen(observations), points.shape[1]
    whole = Seen._make(np.repeat(part, count, 0) for part in numbers)
    relative = observations.relative(points)
    rows, width = relative.shape[-1], numbers.parameters.shape[-1]
    table = np.zeros((*relative.shape[:3], max(width, 3 + rows + rows * rows if derivatives else 3)))
    table[..., :width] = numbers.parameters[:, None]
    for program, row, column, arguments in own_arguments(observations, relative):
        parts = program.derivatives(*arguments) if derivatives else (program.values(*arguments),)
        flat = np.concatenate([array(part).reshape(len(row), count, -1) for part in parts], -1)
        table[row, :, column, 2 : 2 + flat.shape[-1]] = flat
    return whole._replace(parameters=table.reshape(-1, *table.shape[2:]))


def own_values(observations: ObservationData, points: Tensor) -> Array:
    """Values of the functions of the user at `points` ``(B, P, d)``, zero elsewhere, ``(B, P, N)``."""
    table = np.zeros((*points.shape[:2], observations.kind.shape[1]))
    for program, row, column, arguments in own_arguments(observations, observations.relative(points)):
        table[row, :, column] = array(program.values(*arguments)).reshape(len(row), -1)
    return table


def own_arguments(
    observations: ObservationData, relative: Tensor
) -> Iterator[tuple[Program, Count, Count, tuple[Tensor, Tensor]]]:
    """Each function of the user with the places of its observations, and what `Functions.arguments` says."""
    functions = observations.functions
    assert functions is not None
    for number, program in enumerate(functions.programs):
        if program.code != TABULATED:
            continue
        row, column = torch.nonzero(observations.mask & (functions.index == number), as_tuple=True)
        if len(row):
            yield program, row.numpy(), column.numpy(), functions.arguments(program, row, column, relative)


def linearise(observations: Seen, points: Tensor, factors: Tensor) -> tuple[Tensor, ...]:
    """Gradient, information, curvature, slope, and what `residuals` returns, as `Observations.linearise`."""
    shape = (*points.shape[:2], observations.kind.shape[1])
    vector = (*shape, points.shape[2])
    matrix = (*vector, points.shape[2])
    shapes = np.zeros(vector), np.zeros(matrix), np.zeros(matrix), np.zeros(vector)
    each = _each(shape)
    _linearise(observations, array(points), array(factors), shapes, each)
    return tuple(torch.from_numpy(part).to(points) for part in (*shapes, *each))


def residuals(observations: Seen, points: Tensor) -> tuple[Tensor, ...]:
    """The fields of `Residuals`, each ``(B, P, N)``."""
    each = _each((*points.shape[:2], observations.kind.shape[1]))
    _residuals(observations, array(points), each)
    return tuple(torch.from_numpy(part).to(points) for part in each)


def differences(observations: Seen, points: Tensor) -> Tensor:
    """``z − h(x)`` of the scalar kinds, and of a linear one's first number, ``(B, P, N)``."""
    off = np.zeros((*points.shape[:2], observations.kind.shape[1]))
    fill_differences(observations, array(points), off)
    return torch.from_numpy(off).to(points)


def log_likelihood(observations: Seen, points: Tensor, table: Array = NOTHING) -> Tensor:
    """Joint log likelihood ``(B, P)``, as `Observations.log_likelihood`.

    `table` ``(B, P, N)`` has the values of the user's functions, as `own_values` finds them.
    """
    total = np.empty(points.shape[:2])
    _log_likelihood(observations, array(points), table, total)
    return torch.from_numpy(total).to(points)


def smoothed(observations: Seen, points: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Joint log likelihood smoothed over cells `frames` ``(B, P, d, d)``, and its largest change, each ``(B, P)``.

    The variance of an observation over a cell, in units of its noise, is ``tr JᵀJ + |∇²h|² / 2`` in the cell's frame.
    The change is this variance, or the nats by which smoothing raises a log likelihood, whichever is larger: far from
    what is observed, the likelihood varies over a cell that is small beside the noise.
    """
    total, change = np.zeros(points.shape[:2]), np.zeros(points.shape[:2])
    _smoothed(observations, array(points), array(frames), total, change)
    return torch.from_numpy(total).to(points), torch.from_numpy(change).to(points)


def _each(shape: tuple[int, ...]) -> Each:
    return np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape), np.ones(shape)


@native
def _linearise(seen: Seen, points: Array, factors: Array, shapes: Shapes, each: Each) -> None:
    gradient, information, curvature, slope = shapes
    space = new_space(seen)
    for b in range(len(points)):
        for k in range(points.shape[1]):
            for n in range(seen.kind.shape[1]):
                if not seen.mask[b, n] or seen.kind[b, n] == LIKELIHOOD:
                    continue
                into = (gradient[b, k, n], information[b, k, n], curvature[b, k, n], slope[b, k, n])
                terms, deviation = linearise_at(seen, b, n, points[b, k], factors[b, k], space, into)
                _put(terms, deviation, b, k, n, each)


@borrowing
def _put(terms: Terms, deviation: float, b: int, p: int, n: int, each: Each) -> None:
    signed, squared, inlier, outlier = terms
    each[0][b, p, n], each[1][b, p, n] = signed, squared
    each[2][b, p, n], each[3][b, p, n] = inlier - outlier, log_sum(inlier, outlier)
    each[4][b, p, n] = deviation


@native
def _residuals(seen: Seen, points: Array, each: Each) -> None:
    relative = np.empty(seen.matrix.shape[2])
    for b in range(len(points)):
        for p in range(points.shape[1]):
            for n in range(seen.kind.shape[1]):
                if seen.mask[b, n] and seen.kind[b, n] != LIKELIHOOD:
                    distance = relative_to(seen, b, n, points[b, p], relative)
                    terms, deviation = terms_and_deviation(seen, b, n, points[b, p], relative, distance)
                    _put(terms, deviation, b, p, n, each)


@native
def fill_differences(seen: Seen, points: Array, off: Array) -> None:
    """As `differences`."""
    relative = np.empty(seen.matrix.shape[2])
    for b in range(len(points)):
        for p in range(points.shape[1]):
            for n in range(seen.kind.shape[1]):
                if seen.mask[b, n] and seen.kind[b, n] != LIKELIHOOD:
                    distance = relative_to(seen, b, n, points[b, p], relative)
                    off[b, p, n] = (
                        seen.value[b, n, 0] - relative[0]
                        if seen.kind[b, n] == LINEAR
                        else difference(seen, b, n, points[b, p], relative, distance)
                    )


@native
def _smoothed(seen: Seen, points: Array, frames: Array, total: Array, change: Array) -> None:
    size, space = seen.matrix.shape[3], new_space(seen)
    into = (np.empty(size), np.empty((size, size)), np.empty((size, size)), np.empty(size))
    _, information, curvature, _ = into
    for b in range(len(points)):
        for n in range(seen.kind.shape[1]):
            if not seen.mask[b, n] or seen.kind[b, n] == LIKELIHOOD:
                continue
            for p in range(points.shape[1]):
                varied = 0.0
                terms, _ = linearise_at(seen, b, n, points[b, p], frames[b, p], space, into)
                for i in range(size):
                    varied += information[i, i]
                    for j in range(size):
                        varied += 0.5 * curvature[i, j] * curvature[i, j]
                _, squared, inlier, outlier = terms
                gained = 0.5 * squared * (varied / (1 + varied)) - 0.5 * math.log1p(varied)
                likely = log_sum(inlier + gained, outlier)
                varied = max(varied, likely - log_sum(inlier, outlier))
                total[b, p] += -math.inf if likely != likely else likely
                # a comparison that keeps what is not a number
                change[b, p] = change[b, p] if varied <= change[b, p] else varied


@native
def _log_likelihood(seen: Seen, points: Array, table: Array, log_likelihoods: Array) -> None:
    number, rows, size = seen.matrix.shape[1:]
    block, one = new_block(max(1, seen.noise.shape[2]), size), np.empty(max(rows, BLOCK))
    relative, product, total = np.empty((rows, BLOCK)), np.empty(BLOCK), np.empty(BLOCK)
    for b in range(len(points)):
        for start in range(0, points.shape[1], BLOCK):
            some = min(BLOCK, points.shape[1] - start)
            for i in range(size):
                for p in range(some):
                    block.points[i, p] = points[b, start + p, i]
            for p in range(BLOCK):
                product[p], total[p] = 1.0, 0.0
            since = 0
            for n in range(number):
                if not seen.mask[b, n]:
                    continue
                _fill_relative(seen, b, n, block, relative)
                values = table[b, start : start + some, n] if len(table) else one[:0]
                _fill_misfit(seen, b, n, block, relative, values, one)
                _add_observation(seen, b, n, block, product, total)
                since += 1
                if since == SEVERAL:
                    _close(product, total)
                    since = 0
            _close(product, total)
            for p in range(some):
                log_likelihoods[b, start + p] = total[p]


@borrowing
def _fill_relative(seen: Seen, b: int, n: int, block: Block, relative: Array) -> None:
    """Coordinates of the points relative to the sensor."""
    for r in range(len(relative)):
        origin = seen.origin[b, n, r]
        for p in range(BLOCK):
            relative[r, p] = -origin
        for j in range(len(block.points)):
            entry = seen.matrix[b, n, r, j]
            for p in range(BLOCK):
                relative[r, p] += entry * block.points[j, p]


@borrowing
def _fill_misfit(
    seen: Seen, b: int, n: int, block: Block, relative: Array, values: Array, one: Array
) -> None:
    """Minus twice the log density of an inlier beside its peak, into `block.offset`: a Gaussian's squared residual."""
    misfit = block.offset
    if seen.kind[b, n] == LINEAR:
        for p in range(BLOCK):
            misfit[p] = 0.0
        for r in range(len(relative)):
            value = seen.value[b, n, r]
            for p in range(BLOCK):
                misfit[p] += (value - relative[r, p]) * (value - relative[r, p])
        return
    _fill_difference(seen, b, n, block, relative, values, one)
    deviation = seen.deviation[b, n]
    if seen.noise.shape[2] == 0 and seen.slope[b, n] == 0:
        for p in range(BLOCK):
            off = misfit[p] / deviation
            misfit[p] = off * off
        return
    growth = relative[0]  # of the deviation with the value, whose logarithm lowers the density
    for p in range(BLOCK):
        growth[p] = 1.0
    if seen.slope[b, n] != 0:
        for p in range(BLOCK):
            growth[p] = spread_at(seen, b, n, misfit[p]) / deviation
    if seen.noise.shape[2] == 0:
        for p in range(BLOCK):
            off = misfit[p] / (deviation * growth[p])
            misfit[p] = off * off + 2 * logarithm(growth[p])
        return
    _fill_components(seen, b, n, block, growth)
    sum_components(block, one[:BLOCK])
    for p in range(BLOCK):
        misfit[p] = 2 * (logarithm(growth[p]) - one[p])


@borrowing
def _fill_components(seen: Seen, b: int, n: int, block: Block, growth: Array) -> None:
    """Log densities of the components of noise, times σ₀, into `block.values`."""
    for c in range(len(block.values)):
        bias, ratio = seen.noise[b, n, c, 1], seen.noise[b, n, c, 2]
        peak, deviation = seen.noise[b, n, c, 0] - math.log(ratio), seen.deviation[b, n] * ratio
        turn = 1.0 if seen.wraps[b, n] else 0.0
        for p in range(BLOCK):
            offset = block.offset[p] - bias
            scaled = (offset + turn * (within_half_a_turn(offset) - offset)) / (deviation * growth[p])
            block.values[c, p] = peak - 0.5 * scaled * scaled


@borrowing
def _fill_difference(
    seen: Seen, b: int, n: int, block: Block, relative: Array, values: Array, one: Array
) -> None:
    """As `difference`, into `block.offset`; `values` are those of a function of the user."""
    off, value, rows = block.offset, block.total, len(relative)
    for p in range(BLOCK):
        value[p] = seen.value[b, n, 0]
    if turns(seen, b, n, rows):
        for j in range(len(block.points)):
            turn = seen.heading[b, n, j]
            for p in range(BLOCK):
                value[p] += turn * block.points[j, p]
    if seen.kind[b, n] == FUNCTION and seen.function[b, n] == TABULATED:
        for p in range(len(values)):
            off[p] = of_function(seen, b, n, value[p] - values[p])
    elif seen.kind[b, n] == FUNCTION and seen.function[b, n] == SIGNAL_STRENGTH and not seen.wraps[b, n]:
        _fill_loss(seen, b, n, relative, value, off)
    elif seen.kind[b, n] == FUNCTION:
        for p in range(BLOCK):
            for r in range(rows):
                one[r] = relative[r, p]
            off[p] = of_function(
                seen, b, n, value[p] - value_of(seen.function[b, n], seen.parameters[b, n], one)
            )
    elif seen.kind[b, n] == ANGLE and rows > 1:
        for p in range(BLOCK):
            off[p] = within_half_a_turn(value[p] - arctangent(relative[1, p], relative[0, p]))
    else:
        for p in range(BLOCK):
            off[p] = SOFT
        for r in range(rows):
            for p in range(BLOCK):
                off[p] += relative[r, p] * relative[r, p]
        for p in range(BLOCK):
            off[p] = value[p] - math.sqrt(off[p])


@borrowing
def _fill_loss(seen: Seen, b: int, n: int, relative: Array, value: Array, off: Array) -> None:
    """As `of_function`, of a signal strength: `native_functions` has its formula."""
    for p in range(BLOCK):
        off[p] = SOFT
    for r in range(int(seen.parameters[b, n, 0])):
        for p in range(BLOCK):
            off[p] += relative[r, p] * relative[r, p]
    exponent, distance, power = seen.parameters[b, n, 2], seen.parameters[b, n, 3], seen.parameters[b, n, 4]
    scale, most = 10 * exponent / math.log(10.0), FAR * seen.deviation[b, n]
    at_zero = -power - scale * math.log(distance)
    for p in range(BLOCK):
        found = value[p] + at_zero + 0.5 * scale * logarithm(off[p])
        # what is not a number is as far off as can be
        off[p] = max(found, -most) if found < most else most


@borrowing
def _add_observation(seen: Seen, b: int, n: int, block: Block, product: Array, total: Array) -> None:
    """Add the larger of an inlier's and an outlier's log density to the total, and multiply the rest in."""
    misfit = block.offset
    best, constant = seen.log_inlier[b, n] - seen.constant[b, n], seen.log_outlier[b, n]
    if constant == -math.inf:
        for p in range(BLOCK):
            total[p] += best - 0.5 * misfit[p]
        return
    slope = 0.0
    if seen.kind[b, n] == LINEAR:
        slope = -0.5 / WIDE_OUTLIER**2
        constant -= seen.constant[b, n] + seen.rows[b, n] * LOG_WIDE
    else:
        constant += seen.outlier[b, n]
    for p in range(BLOCK):
        inlier, outlier = best - 0.5 * misfit[p], constant + slope * misfit[p]
        total[p] += inlier if inlier > outlier else outlier
        odds = -abs(inlier - outlier)
        block.argument[p] = UNDERFLOW if odds < UNDERFLOW else odds
        block.total[p] = 1.0
    add_exponential(block.argument, block.total)
    for p in range(BLOCK):
        product[p] *= block.total[p]


@borrowing
def _close(product: Array, total: Array) -> None:
    """Take the product into the total."""
    for p in range(BLOCK):
        total[p] += logarithm(product[p])
        product[p] = 1.0
