"""Nodes of one bent observation at one component of the prior, for `curved`.

The frame has the line along which the observation changes as its first axis. Gauss-Hermite nodes of the prior lie
across that line; through each goes a line of nodes at the posterior's peak there.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_functions import SOFT
from beliefstream.inference.likelihood.native_terms import Seen, angle, length, wrapped
from beliefstream.inference.likelihood.observation_data import ANGLE
from beliefstream.inference.mixtures.gauss_hermite import rule
from beliefstream.inference.mixtures.native import adding, borrowing, inner
from beliefstream.inference.mixtures.native_arrays import Numbers, array
from beliefstream.inference.mixtures.native_exponential import UNDERFLOW, exponential
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise
from beliefstream.inference.mixtures.splitting import DIVISIONS

Array = NDArray[np.float64]
Places = NDArray[np.int64]

MOST_TOUCHED = 3  # coordinates, as `_turn` knows the axes of no more
# bend in standard deviations of the noise, up to which a rule is used, and the nodes across of the rule and of its
# check: an even number has none in the middle. The evidence of a range 6 to 60 deviations away, with a value within 3
# of the predicted one, is off by 2e-6 nats at most, that of the checks by 1e-4 (beside 60 × 24 nodes).
RULES = ((0.1, 7, 4), (0.3, 11, 8), (4.0, 15, 12))
# nodes along the line, of a rule and of its check; the latter for a component times an outlier too
ALONG = 5, 4
AWAY = 6.0  # standard deviations of a component to the sensor; exp(−18) of its highest density is left there
LIGHT = 1e-7  # share of a posterior below which a part of it is left out: below what reduction leaves out
MOST_ERROR = 0.002  # nats between two rules
STEPS = 4  # to the peak along a line; of the ranges above, 2 find it


class Rule(NamedTuple):
    """Nodes across and along; `parts` are shares of a component's parts in each node across."""

    across: Array  # (O, d - 1)
    log_across: Array  # (O,), log weights
    along: Array  # (I,)
    log_along: Array  # (I,), log weights over the density of a Gaussian there
    parts: Array  # (J, O)


@lru_cache
def rules(size: int) -> tuple[tuple[Rule, Rule], ...]:
    """A rule and its check for each of `RULES`, in `size` coordinates."""
    return tuple(
        (_rule(fine, ALONG[0], size, number), _rule(coarse, ALONG[1], size, 0))
        for number, (_, fine, coarse) in enumerate(RULES)
    )


def _rule(across: int, along: int, size: int, division: int) -> Rule:
    steps, weights = torch.zeros(1, 0, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    parts = torch.ones(1, 1, dtype=torch.float64)
    if size > 1:
        steps, weights = rule(across, size - 1)
        chosen = DIVISIONS[division]
        logs = [
            math.log(weight / chosen.narrower) - 0.5 * ((steps[:, 0] - place) / chosen.narrower).square()
            for weight, place in chosen.places()
        ]
        parts = torch.softmax(torch.stack(logs), 0)
    line, shares = rule(along, 1)
    logs_along = shares.log() + 0.5 * line[:, 0].square()
    return Rule(*map(array, (steps, weights.log(), line[:, 0], logs_along, parts)))


@lru_cache
def outside(size: int) -> tuple[Array, Array]:
    """Nodes ``(P, size)`` and log weights of a component times an outlier."""
    nodes, weights = rule(ALONG[1], size)
    return array(nodes), array(weights.log())


class Frame(NamedTuple):
    """A component in the frame of an observation: its first axis is the line along which the observation changes."""

    lower: Array  # (d, d), factor of the seen covariance
    axes: Array  # (d, d), the frame's axes in that of `lower`
    factor: Array  # (d, d), of the seen covariance, along the axes
    plain: Array  # (R, d), of the coordinates relative to the sensor, as the next two
    matrix: Array  # (R, d), along the axes
    relative: Array  # (R,)
    base: Array  # (R,), space
    heading: Array  # (2, d), the second along the axes
    whole: Array  # (D, d), regression of the state on the axes
    rest: Array  # (D, D), covariance that is left
    vectors: tuple[Array, Array]  # gradient and slope, (d,)
    squares: tuple[Array, Array, Array]  # information, curvature and space, (d, d)


class Sensor(NamedTuple):
    """One observation, as a component sees it."""

    is_angle: bool
    value: float
    deviation: float
    turn: float  # heading times the component's mean


@inner
def new_frame(seen: int, size: int, rows: int) -> Frame:
    squares, vectors = np.empty((6, seen, seen)), np.empty((2, seen))
    matrices, relative = np.empty((2, rows, seen)), np.empty((2, rows))
    return Frame(
        squares[0], squares[1], squares[2],
        matrices[0], matrices[1], relative[0], relative[1],
        np.empty((2, seen)), np.empty((size, seen)), np.empty((size, size)),
        (vectors[0], vectors[1]), (squares[3], squares[4], squares[5]),
    )  # fmt: skip


@borrowing
def sensor_at(prior: Numbers, b: int, k: int, seen: Seen, n: int) -> Sensor:
    turn = 0.0
    for i in range(prior.means.shape[2]):
        turn += seen.heading[b, n, i] * prior.means[b, k, i]
    is_angle = seen.kind[b, n] == ANGLE and seen.matrix.shape[2] > 1
    return Sensor(is_angle, seen.value[b, n, 0], seen.deviation[b, n], turn)


@borrowing
def fill_frame(
    prior: Numbers, b: int, k: int, seen: Seen, n: int, axes: Places, sensor: Sensor, frame: Frame
) -> tuple[float, float, float, float]:
    """Fill the frame; the bend, the distance to the other side in standard deviations, the spread and the residual."""
    covariance, size = prior.covariances[b, k], len(axes)
    for i in range(size):
        for j in range(size):
            frame.squares[2][i, j] = covariance[axes[i], axes[j]]
    factorise(frame.squares[2], TINY, ROUNDING, frame.lower)
    rows = len(frame.relative)
    for r in range(rows):
        frame.relative[r] = -seen.origin[b, n, r]
        for i in range(prior.means.shape[2]):
            frame.relative[r] += seen.matrix[b, n, r, i] * prior.means[b, k, i]
        for j in range(size):
            frame.plain[r, j] = 0.0
            for i in range(j, size):
                frame.plain[r, j] += seen.matrix[b, n, r, axes[i]] * frame.lower[i, j]
    for j in range(size):
        frame.heading[0, j] = 0.0
        for i in range(j, size):
            frame.heading[0, j] += seen.heading[b, n, axes[i]] * frame.lower[i, j]
    signed, distance = _derivatives(sensor, frame)
    bend = spread = radial = 0.0
    for j in range(size):
        total = 0.0
        for r in range(2 if sensor.is_angle else rows):
            total += frame.plain[r, j] * frame.relative[r]
        radial += total * total
        spread += frame.vectors[1][j] * frame.vectors[1][j]
        for i in range(size):
            bend += frame.squares[1][i, j] * frame.squares[1][i, j]
    _turn(math.sqrt(spread), frame)
    _regress(covariance, axes, frame)
    away = _foot(frame) if not sensor.is_angle else distance * distance / math.sqrt(radial)
    return math.sqrt(bend), away, math.sqrt(spread), signed


@borrowing
def _foot(frame: Frame) -> float:
    """Standard deviations to where a distance is shortest along lines of nodes: the other side of the ring is beyond.

    These points are a plane. It is as far as the sensor only where the lines lead to the sensor.
    """
    along = across = 0.0
    for j in range(frame.plain.shape[1]):
        total = 0.0
        for r in range(len(frame.relative)):
            total += frame.plain[r, j] * frame.matrix[r, 0]
        across += total * total
    for r in range(len(frame.relative)):
        along += frame.relative[r] * frame.matrix[r, 0]
    return abs(along) / math.sqrt(across)


@borrowing
def _derivatives(sensor: Sensor, frame: Frame) -> tuple[float, float]:
    """Fill slope and curvature at the mean; the signed residual, and the distance to the sensor."""
    relative, squared = frame.relative, SOFT
    for r in range(2 if sensor.is_angle else len(relative)):
        squared += relative[r] * relative[r]
    distance = math.sqrt(squared)
    into = (frame.vectors[0], frame.squares[0], frame.squares[1], frame.vectors[1])
    if sensor.is_angle:
        off = wrapped(sensor.value - (math.atan2(relative[1], relative[0]) - sensor.turn))
        angle(frame.plain, frame.heading[0], relative, sensor.deviation, off / sensor.deviation, into)
        return off / sensor.deviation, distance
    off = sensor.value - distance
    length(frame.plain, frame.heading[0], relative, distance, sensor.deviation, off / sensor.deviation, into)
    return off / sensor.deviation, distance


@borrowing
def _turn(spread: float, frame: Frame) -> None:
    """Fill the axes: the first along the slope, the second along the largest bend across it."""
    axes, slope, curvature, size = frame.axes, frame.vectors[1], frame.squares[1], len(frame.axes)
    for i in range(size):
        axes[i, 0] = slope[i] / spread
    if size == 2:
        axes[0, 1], axes[1, 1] = -axes[1, 0], axes[0, 0]
    if size == 3:
        least = 0
        for i in range(1, 3):
            least = i if abs(axes[i, 0]) < abs(axes[least, 0]) else least
        norm = math.sqrt(1 - axes[least, 0] * axes[least, 0])
        for i in range(3):
            axes[i, 1] = ((1.0 if i == least else 0.0) - axes[least, 0] * axes[i, 0]) / norm
        for i in range(3):
            j, k = (i + 1) % 3, (i + 2) % 3
            axes[i, 2] = axes[j, 0] * axes[k, 1] - axes[k, 0] * axes[j, 1]
        # the squared curvature across, of which the largest eigenvector is the second axis
        first = second = both = 0.0
        for i in range(3):
            one = other = 0.0
            for j in range(3):
                one += curvature[i, j] * axes[j, 1]
                other += curvature[i, j] * axes[j, 2]
            first, second, both = first + one * one, second + other * other, both + one * other
        turn = 0.5 * math.atan2(2 * both, first - second)
        for i in range(3):
            one, other = axes[i, 1], axes[i, 2]
            axes[i, 1] = math.cos(turn) * one + math.sin(turn) * other
            axes[i, 2] = math.cos(turn) * other - math.sin(turn) * one
    for j in range(size):
        frame.heading[1, j] = 0.0
        for i in range(size):
            frame.heading[1, j] += frame.heading[0, i] * axes[i, j]
            frame.factor[i, j] = 0.0
            for m in range(i + 1):
                frame.factor[i, j] += frame.lower[i, m] * axes[m, j]
        for r in range(len(frame.matrix)):
            frame.matrix[r, j] = 0.0
            for i in range(size):
                frame.matrix[r, j] += frame.plain[r, i] * axes[i, j]


@borrowing
def _regress(covariance: Array, axes: Places, frame: Frame) -> None:
    """Fill the regression of the whole state on the frame, and the covariance that it leaves."""
    whole, lower, size = frame.whole, frame.lower, len(axes)
    for i in range(len(whole)):
        for j in range(size):
            value = covariance[i, axes[j]]
            for m in range(j):
                value -= lower[j, m] * frame.vectors[0][m]
            frame.vectors[0][j] = value / lower[j, j]
        for j in range(size):
            whole[i, j] = 0.0
            for m in range(size):
                whole[i, j] += frame.vectors[0][m] * frame.axes[m, j]
    for i in range(size):  # seen coordinates follow exactly
        for j in range(size):
            whole[axes[i], j] = frame.factor[i, j]
    for i in range(len(whole)):
        for j in range(i + 1):
            value = 0.5 * (covariance[i, j] + covariance[j, i])
            for m in range(size):
                value -= whole[i, m] * whole[j, m]
            frame.rest[i, j] = frame.rest[j, i] = value
    for i in range(size):
        for j in range(len(whole)):
            frame.rest[axes[i], j] = frame.rest[j, axes[i]] = 0.0


class Nodes(NamedTuple):
    """Nodes of one component in its frame."""

    places: Array  # (d, P)
    logs: Array  # (P,), of weight × density × likelihood of an inlier, without the noise's constant
    squared: Array  # (P,), residuals
    share: Array  # (P,), from `logs`
    part: Array  # (P,), space


@inner
def new_nodes(seen: int, count: int) -> Nodes:
    numbers = np.empty((4, count))
    return Nodes(np.empty((seen, count)), numbers[0], numbers[1], numbers[2], numbers[3])


@borrowing
def residual(sensor: Sensor, frame: Frame, turn: float, along: float) -> tuple[float, float]:
    """Residual on the line through `frame.base`, and its fall along it, in units of the noise."""
    if sensor.is_angle:
        first = frame.base[0] + frame.matrix[0, 0] * along
        second = frame.base[1] + frame.matrix[1, 0] * along
        off = wrapped(sensor.value - (math.atan2(second, first) - turn - frame.heading[1, 0] * along))
        slope = (frame.matrix[1, 0] * first - frame.matrix[0, 0] * second) / (
            first * first + second * second + SOFT
        )
        return off / sensor.deviation, (slope - frame.heading[1, 0]) / sensor.deviation
    squared, slope = SOFT, 0.0
    for r in range(len(frame.base)):
        there = frame.base[r] + frame.matrix[r, 0] * along
        squared += there * there
        slope += there * frame.matrix[r, 0]
    distance = math.sqrt(squared)
    return (sensor.value - distance) / sensor.deviation, slope / distance / sensor.deviation


@borrowing
def line_through(sensor: Sensor, frame: Frame, across: Array, node: int) -> float:
    """Fill `frame.base` with where a node across is; the turn there."""
    turn = sensor.turn
    for r in range(len(frame.base)):
        frame.base[r] = frame.relative[r]
    for j in range(across.shape[1]):
        step = across[node, j]
        turn += frame.heading[1, 1 + j] * step
        for r in range(len(frame.base)):
            frame.base[r] += frame.matrix[r, 1 + j] * step
    return turn


@borrowing
def place_nodes(sensor: Sensor, frame: Frame, rule: Rule, nodes: Nodes) -> int:
    """Fill the nodes of a component times an inlier; how many."""
    p = 0
    for o in range(len(rule.across)):
        turn = line_through(sensor, frame, rule.across, o)
        peak, off, slope = 0.0, 0.0, 0.0
        for _ in range(STEPS):
            off, slope = residual(sensor, frame, turn, peak)
            peak = slope * (off + slope * peak) / (1 + slope * slope)
        off, slope = residual(sensor, frame, turn, peak)
        width = 1 / math.sqrt(1 + slope * slope)
        log_width = rule.log_across[o] + math.log(width)
        for i in range(len(rule.along)):
            along = peak + width * rule.along[i]
            off, slope = residual(sensor, frame, turn, along)
            nodes.places[0, p] = along
            for j in range(rule.across.shape[1]):
                nodes.places[1 + j, p] = rule.across[o, j]
            nodes.squared[p] = off * off
            nodes.logs[p] = log_width + rule.log_along[i] - 0.5 * along * along - 0.5 * off * off
            p += 1
    return p


@borrowing
def share_out(nodes: Nodes, count: int) -> float:
    """Fill the nodes' shares from their logs; the log of their sum."""
    logs, share, highest = nodes.logs, nodes.share, -math.inf
    for p in range(count):
        # a comparison that keeps what is not a number
        highest = highest if logs[p] <= highest else logs[p]
    for p in range(count):
        value = logs[p] - highest
        share[p] = exponential(UNDERFLOW if value < UNDERFLOW else value)
    total = _sum(share, count)
    for p in range(count):
        share[p] /= total
    return highest + math.log(total)


@adding
def _sum(values: Array, count: int) -> float:
    total = 0.0
    for p in range(count):
        total += values[p]
    return total


@adding
def moments(nodes: Nodes, share: Array, count: int, mean: Array, covariance: Array) -> float:
    """Fill mean and covariance in the frame, by `share` of the nodes; the sum of the shares."""
    total = 0.0
    for p in range(count):
        total += share[p]
    for i in range(len(mean)):
        row, value = nodes.places[i], 0.0
        for p in range(count):
            value += share[p] * row[p]
        mean[i] = value / total
    for i in range(len(mean)):
        for j in range(i + 1):
            row, other, value = nodes.places[i], nodes.places[j], 0.0
            first, second = mean[i], mean[j]
            for p in range(count):
                value += share[p] * (row[p] - first) * (other[p] - second)
            covariance[i, j] = covariance[j, i] = value / total
    return total
