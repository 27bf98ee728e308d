"""How far an update with learned likelihoods can be trusted: their own error, and whether they knew such cases.

The divergence of a learned likelihood from its simulator bounds the expected divergence of the posterior that it
gives: KL of the joint law of parameters and data is that of the data, plus that of the posterior, on average. Of data
as rare as one in 1 / p, the mean divergence may be 1 / p times as large. Where it was measured
(`research.evaluation.learned.errors`), it was below `RARE` / p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from beliefstream.inference.likelihood.noise import Array
from beliefstream.inference.likelihood.problems import Problem
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.tracking.events import Belief

RARE = 0.2  # p-value of data below which a learned likelihood is said to be worse
# nats that an observation counts whose likelihood does not say its error: far from a good answer
UNKNOWN = 1.0
TAIL = 0.005  # mass of a posterior that may lie beyond either end of the range
_ROUNDS = 50  # of a bisection


@dataclass(frozen=True)
class Trust:
    """Trust in the learned likelihoods of an update.

    Attributes:
        error: sum of KL(simulator ‖ learned) over the observations, in nats, more of rare data; None if one of them
            does not say.
        counted: the same in nats, with `UNKNOWN` for each that does not say.
        outside: how far data, context or the posterior lie outside the training, in widths of its range; 0 inside;
            None if one of the likelihoods does not say.
    """

    error: float | None
    outside: float | None
    counted: float

    def for_data(self, p_value: float) -> Trust:
        """Trust after data with that p-value: rarer data were simulated less often."""
        factor = max(1.0, RARE / max(p_value, 1e-6))
        error = None if self.error is None else factor * self.error
        return replace(self, error=error, counted=factor * self.counted)

    def over(self, belief: Belief, readings: Sequence[Reading]) -> Trust:
        """Add how far the posterior `belief` lies outside."""
        if self.outside is None:
            return self
        return replace(self, outside=max(self.outside, *(_beyond(belief, r) for r in readings)))


def trust_in(readings: Sequence[Reading]) -> Trust | None:
    """Trust in the likelihoods of `readings` alone; None if all are exact."""
    learned = [reading for reading in readings if reading.sensor.is_learned]
    if not learned:
        return None
    errors: list[float | None] = []
    outside: list[float | None] = []
    for reading in learned:
        problem = reading.sensor.problem
        assert problem is not None
        if problem.learned is None:
            errors.append(_stated_error(problem.problem))
            outside.append(None)
            continue
        numbers = torch.as_tensor(reading.sensor.numbers(reading.value), dtype=torch.float64)
        errors.append(problem.learned.expected_error)
        outside.append(problem.learned.distance_of(numbers))
    said = [error for error in errors if error is not None]
    far = [distance for distance in outside if distance is not None]
    return Trust(
        sum(said) if len(said) == len(errors) else None,
        max(far) if len(far) == len(outside) else None,
        sum(said) + UNKNOWN * (len(errors) - len(said)),
    )


def _stated_error(problem: Problem) -> float | None:
    """What a problem whose likelihood was learned elsewhere says of its error; None if that is no number from 0 on."""
    stated = getattr(problem, "expected_error", None)
    if isinstance(stated, bool) or not isinstance(stated, (int, float)):
        return None
    return float(stated) if 0 <= stated < math.inf else None


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
