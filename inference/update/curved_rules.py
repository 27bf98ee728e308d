"""Nodes and limits of `inference.update.curved_quadrature`."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.mixtures.gauss_hermite import rule
from beliefstream.inference.mixtures.splitting import DIVISIONS

Array = NDArray[np.float64]

MOST_TOUCHED = 3  # coordinates
BENDS = (0.1, 0.3, 4.0)  # standard deviations of the noise, up to which each rule is used
# nodes along each axis across and along the line, of a rule and of its check: an even number has none in the middle
COUNTS = (((7, 5), (4, 4)), ((11, 5), (8, 4)), ((15, 5), (12, 4)))
OUTSIDE = 4  # nodes along each axis of a component times an outlier
MOST_ANGLE, MOST_TURNED = 0.4, 2.0  # rad; a less certain direction, or one farther off, may wrap
AWAY = 6.0  # standard deviations of a component to the sensor
REACH = 10.0  # standard deviations of a component within which its mass lies
NEGLIGIBLE = 40.0  # nats; below an outlier by this, an inlier needs no nodes
LIGHTEST = 1e-7  # weight of a component below which it is left out
MOST_MISSED = 1e-5  # share of the posterior that may lie beyond a sensor, or in components that are left out
MOST_ERROR = 0.002  # nats between two rules


class Rule(NamedTuple):
    """Nodes across and along; `parts` are shares of a component's parts in each node across."""

    across: Array  # (O, d - 1)
    log_across: Array  # (O,), log weights
    along: Array  # (I,)
    log_along: Array  # (I,), log weights over the density of a Gaussian there
    parts: Array  # (J, O)


class Limits(NamedTuple):
    """The constants above, as native functions take them."""

    bends: tuple[float, float, float] = BENDS
    angle: float = MOST_ANGLE
    turned: float = MOST_TURNED
    away: float = AWAY
    reach: float = REACH
    negligible: float = NEGLIGIBLE
    lightest: float = math.log(LIGHTEST)
    missed: float = math.log(MOST_MISSED)
    error: float = MOST_ERROR


@lru_cache
def rules(size: int) -> tuple[tuple[Rule, Rule], ...]:
    """A rule and its check for each of `BENDS`, in `size` coordinates."""
    return tuple(
        (_rule(*fine, size, number), _rule(*check, size, 0)) for number, (fine, check) in enumerate(COUNTS)
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
    tensors = (steps, weights.log(), line[:, 0], logs_along, parts)
    return Rule(*(np.ascontiguousarray(tensor.numpy()) for tensor in tensors))


@lru_cache
def outside(size: int) -> tuple[Array, Array]:
    """Nodes ``(P, size)`` and log weights of a component times an outlier."""
    nodes, weights = rule(OUTSIDE, size)
    return np.ascontiguousarray(nodes.numpy()), weights.log().numpy()
