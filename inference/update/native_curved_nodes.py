"""Nodes and moments of one component and one bent observation, for `native_curved_quadrature`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_derivatives import SOFT
from beliefstream.inference.likelihood.native_terms import wrapped
from beliefstream.inference.mixtures.native import adding, borrowing, inner
from beliefstream.inference.mixtures.native_exponential import UNDERFLOW, exponential
from beliefstream.inference.update.curved_rules import Rule
from beliefstream.inference.update.native_curved_frame import Frame, Sensor

Array = NDArray[np.float64]

STEPS = 4  # to the peak along a line


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
