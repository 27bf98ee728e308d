"""How far an update with learned likelihoods can be trusted: their own error, and whether they knew such cases.

The divergence of a learned likelihood from its simulator bounds the expected divergence of the posterior that it
gives: KL of the joint law of parameters and data is that of the data, plus that of the posterior, on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from beliefstream.inference.likelihood.noise import Array
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.tracking.events import Belief

TAIL = 0.005  # mass of a posterior that may lie beyond either end of the range
_ROUNDS = 50  # of a bisection


@dataclass(frozen=True)
class Trust:
    """Trust in the learned likelihoods of an update.

    Attributes:
        error: sum of KL(simulator ‖ learned) over the observations, in nats; None if one of them does not say.
        outside: how far data, context or the posterior lie outside the training, in widths of its range; 0 inside;
            None if one of the likelihoods does not say.
    """

    error: float | None
    outside: float | None

    def over(self, belief: Belief, readings: Sequence[Reading]) -> Trust:
        """Add how far the posterior `belief` lies outside."""
        if self.outside is None:
            return self
        return replace(self, outside=max(self.outside, *(_beyond(belief, r) for r in readings)))


def trust_in(readings: Sequence[Reading]) -> Trust | None:
    """Trust in the likelihoods of `readings` alone; None if all are exact."""
    learned = [r for r in readings if r.sensor.problem is not None and r.sensor.problem.is_learned]
    if not learned:
        return None
    error, outside = 0.0, 0.0
    for reading in learned:
        problem = reading.sensor.problem
        if problem is None or problem.learned is None:
            return Trust(None, None)
        numbers = torch.as_tensor(reading.sensor.numbers(reading.value), dtype=torch.float64)
        error += problem.learned.expected_error
        outside = max(outside, problem.learned.distance_of(numbers))
    return Trust(error, outside)


def _beyond(belief: Belief, reading: Reading) -> float:
    """How far the middle 99 % of each parameter lie outside the training, in widths; the largest."""
    sensor = reading.sensor
    if sensor.problem is None or sensor.problem.learned is None:
        return 0.0
    learned, count = sensor.problem.learned, len(sensor.matrix)
    low, high = (end[:count].cpu().numpy() for end in (learned.low, learned.high))
    means = belief.means @ sensor.matrix.T - sensor.origin  # (k, n)
    variances = np.einsum("nd,kde,ne->kn", sensor.matrix, belief.covariances, sensor.matrix)
    deviations = np.sqrt(np.maximum(variances, 1e-300))
    below = _quantile(TAIL, belief.weights, means, deviations)
    above = _quantile(1 - TAIL, belief.weights, means, deviations)
    return float(np.maximum(0, np.maximum(low - below, above - high) / (high - low)).max())


def _quantile(level: float, weights: Array, means: Array, deviations: Array) -> Array:
    """Quantile ``(n,)`` of mixtures with `means` and `deviations` ``(k, n)``, by bisection."""
    low, high = (means - 8 * deviations).min(0), (means + 8 * deviations).max(0)
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        shares = torch.special.ndtr(torch.as_tensor((middle - means) / deviations)).numpy()
        is_low = weights @ shares < level
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    found: Array = (low + high) / 2
    return found
