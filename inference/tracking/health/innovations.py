"""Innovations: the distance of each reading from its prediction, in standard deviations."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import torch

from beliefstream.inference.likelihood.predicted_observations import Prediction
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import expand
from beliefstream.inference.tracking.events import Step
from beliefstream.inference.tracking.gains import linearised
from beliefstream.inference.tracking.hidden import prepared
from beliefstream.inference.tracking.prediction import predict, without_expired


def innovations(steps: Sequence[Step]) -> list[list[float]]:
    """Return the distance of each reading of each step from the nearest component of the prediction.

    It is the Mahalanobis length of the innovation, linearised at the mean of the component, with the covariance of
    prediction and noise. Outliers of the sensor do not widen its noise here. A composite reading has the largest
    distance of its parts.
    """
    steps = linearised([prepared(without_expired(step)) for step in steps])
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, step in enumerate(steps):
        hidden = len(step.belief.hidden.errors) if step.belief is not None else 0
        alike[step.model.motion.dimension, hidden].append(index)
    found: list[list[float]] = [[] for _ in steps]
    for indices in alike.values():
        distances = _innovations_alike([steps[index] for index in indices])
        for index, several in zip(indices, distances, strict=True):
            found[index] = several
    return found


def _innovations_alike(steps: Sequence[Step]) -> list[list[float]]:
    found = [[0.0] * len(step.instant.readings) for step in steps]
    parts = [
        (row, number, part)
        for row, step in enumerate(steps)
        for number, reading in enumerate(step.instant.readings)
        for part in expand(reading)
    ]
    if not parts:
        return found
    predicted = predict(steps)
    prior = predicted.rows(torch.tensor([row for row, _, _ in parts]))
    squared = Prediction.of(prior, encode([[part] for _, _, part in parts], prior.dimension)).distance
    nearest = squared.masked_fill(~prior.present, math.inf).min(1).values.sqrt().tolist()
    for (row, number, _), distance in zip(parts, nearest, strict=True):
        found[row][number] = max(found[row][number], distance)
    return found
