"""Errors that multiply what a sensor reports, such as its scale: linearised at the prediction.

With such an error e, a report without calibration is ``y = h(x) + g(x) e + n``, ``g = factor (h − reference)``
(`inference.sensors.persistent.Gain`). At the predicted means ĥ, ĝ and ê,

``y = (1 + factor ê) h − factor reference ê + ĝ (e − ê) + c + n'``,

where ``c = cov(g, e)`` is the mean of the product of both deviations, which counts as noise: ``var n' = var n +
var(g) var(e) + c²`` for Gaussians (A. H. Jazwinski, "Stochastic Processes and Filtering Theory", 1970, section 9.3). So
a sensor of another scale, with an error that adds, replaces the sensor in the step. Means and variances are those of
all components. What this noise hides, ``½ log (var n' / var n)`` nats, counts as lost; where that is more than a
linearised update may lose, the report is taken as it is (`inference.likelihood.native_terms.Product`), by
`inference.update.persistent.single_observation`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Product
from beliefstream.inference.likelihood.observations import LINEAR
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, expand
from beliefstream.inference.tracking.events import Step
from beliefstream.inference.tracking.prediction import predict

Array = NDArray[np.float64]

LEAST = 0.1  # of 1 + factor ê: an estimate beyond it has run off


def linearised(steps: Sequence[Step]) -> list[Step]:
    """Return prepared steps with readings whose errors all add; see `inference.tracking.hidden.prepared`."""
    found, alike = list(steps), defaultdict[tuple[int, int], list[int]](list)
    parts = [[part for part in _parts(step) if part.sensor.gain is not None] for step in steps]
    for index, step in enumerate(steps):
        if parts[index]:
            assert step.belief is not None
            alike[step.model.motion.dimension, step.belief.means.shape[1]].append(index)
    for (state, _), indices in alike.items():
        prior = predict([steps[index] for index in indices])
        rows = [row for row, index in enumerate(indices) for _ in parts[index]]
        flat = [part for index in indices for part in parts[index]]
        changed = iter(_additive(flat, prior.rows(torch.tensor(rows)), state))
        for index in indices:
            instant = steps[index].instant
            readings = tuple([_with_parts(reading, changed) for reading in instant.readings])
            instant = msgspec.structs.replace(instant, readings=readings)
            found[index] = msgspec.structs.replace(steps[index], instant=instant)
    return found


def _parts(step: Step) -> Iterator[Reading]:
    """The readings of a step with hidden coordinates, with composite ones split."""
    if step.belief is not None and step.belief.hidden.errors:
        for reading in step.instant.readings:
            yield from expand(reading)


def _with_parts(reading: Reading, changed: Iterator[Reading]) -> Reading:
    """The reading with the next of the changed ones, or of its parts."""
    parts = [part if part.sensor.gain is None else next(changed) for part in expand(reading)]
    if not reading.sensor.parts:
        return parts[0]
    value, start = np.concatenate([part.value for part in parts]), 0
    covariance = np.zeros((len(value), len(value)))
    for part in parts:
        end = start + len(part.value)
        own = part.sensor.covariance if part.covariance is None else part.covariance
        covariance[start:end, start:end], start = own, end
    sensor = replace(reading.sensor, parts=tuple(part.sensor for part in parts))
    return Reading(sensor, value, covariance)


class _Moments(NamedTuple):
    """Of h and e at one reading: means, variances and the covariance."""

    h: float
    e: float
    of_h: float
    of_e: float
    both: float


def _additive(readings: Sequence[Reading], prior: GaussianMixture, state: int) -> list[Reading]:
    """The readings as linearised at the predictions ``(n, K, D + m)``."""
    deviations = np.array([_variance(one) ** 0.5 / abs(one.sensor.scale) for one in readings])
    rows = zip(readings, _moments(readings, prior, state, deviations).tolist(), strict=True)
    return [_additive_one(reading, _Moments(*moments)) for reading, moments in rows]


def _variance(reading: Reading) -> float:
    covariance = reading.sensor.covariance if reading.covariance is None else reading.covariance
    return float(covariance[0, 0])


def _moments(readings: Sequence[Reading], prior: GaussianMixture, state: int, deviations: Array) -> Array:
    """The moments at each reading, ``(n, 5)``; `deviations` ``(n,)`` are those of the noise, in the unit of h."""
    factors, means = prior.factors(), prior.means.clone()
    of_state, at = factors.clone(), np.array([one.sensor.gain[0] for one in readings if one.sensor.gain])
    means[..., state:], of_state[..., state:, :] = 0.0, 0.0
    linear = encode([[one] for one in readings], prior.dimension).linearise(means, of_state)
    values = np.array([(one.value[0] - one.sensor.bias) / one.sensor.scale for one in readings])
    h = values[:, None] - linear.residuals.signed[..., 0].numpy() * deviations[:, None]
    slope = linear.slope[..., 0, :].numpy() * deviations[:, None, None]
    own, each = factors.numpy()[range(len(at)), :, at], prior.means.numpy()[range(len(at)), :, at]
    weights = prior.log_weights.exp().numpy()

    def mean(of: Array) -> Array:
        # one after the other, so that absent components of a batch change no bit
        total: Array = np.add.accumulate(weights * of, 1)[:, -1]
        return total

    middle, error = mean(h), mean(each)
    beside, off = h - middle[:, None], each - error[:, None]
    spreads = (slope * slope).sum(2) + beside**2, (own * own).sum(2) + off**2
    return np.stack([middle, error, *map(mean, spreads), mean((slope * own).sum(2) + beside * off)], 1)


def _additive_one(reading: Reading, found: _Moments) -> Reading:
    sensor = reading.sensor
    assert sensor.gain is not None
    at, (reference, factor) = sensor.gain
    grown = max(1 + factor * found.e, LEAST)
    error, loading = (grown - 1) / factor, factor * (found.h - reference)
    shift = error * (factor * reference + loading) - factor * found.both
    noise = factor**2 * (found.of_h * found.of_e + found.both**2)
    matrix, heading, state = sensor.matrix.copy(), sensor.heading, sensor.dimension - sensor.hidden
    assert heading is not None  # over hidden coordinates
    heading = heading.copy()
    # others are per reported number
    matrix[:, state:], heading[state:] = matrix[:, state:] / grown, heading[state:] / grown
    if sensor.kind == LINEAR:
        matrix[0, at] += loading / grown
    else:
        heading[at] -= loading / grown
    variance, both = _variance(reading), _variance(reading) + sensor.scale**2 * noise
    # the mean of what the product adds, beside that of the error that adds
    middle = loading * error - factor * found.both
    product = Product(at, error, factor / grown, reference, middle / grown, variance / both)
    scale = sensor.scale * grown
    own = replace(sensor, matrix=matrix, heading=heading, scale=scale, gain=None, product=product)
    return Reading(own, reading.value + sensor.scale * shift, np.array([[both]]))
