"""How well each reported number fits its prediction, for a batch of entities at once.

The prediction of a scalar observation is a mixture: the components of the predicted belief, linearised at their means,
times those of the noise. If the model, the sensor's definition and the belief are right, the reported value is a draw
from it. Then its normal score ``z = Φ⁻¹(F(y))`` is standard normal, whatever the prediction (Rosenblatt, "Remarks on a
multivariate transformation", Annals of Mathematical Statistics 23, 1952). A wide belief makes a wide prediction. So
each score comes with the share of the prediction's variance that is noise of the sensor: little says little.

Every number of a reading is one row, a *channel* of its sensor. The rows of a vector are judged by their marginals.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from beliefstream.inference.likelihood.observations import LIKELIHOOD, Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, expand
from beliefstream.inference.tracking.health import native_fits
from beliefstream.inference.tracking.health.columns import Array, Fit

__all__ = ["fits"]


@torch.no_grad()
def fits(
    readings: Sequence[Sequence[Reading]], prior: GaussianMixture, observations: Observations | None = None
) -> list[Array]:
    """Return the fits of each entity's readings to its prediction.

    Args:
        readings: of each of ``B`` entities.
        prior: their predicted beliefs, ``(B, K, D)``.
        observations: the readings, encoded, if each entity has one reading of one number; None to encode them here.

    Returns:
        For each entity an array ``(channels, len(Fit))``: the channels of its first reading, of its second, and so on.
        Not judged (`Fit.SHARE` is 0) are a value whose sensor is too curved within the prediction, a direction that the
        prediction hardly knows, and a further reading of one sensor at the same time, which is not independent.
    """
    channels = Channels.of(readings)
    if not channels.readings:
        return [np.zeros((0, len(Fit))) for _ in readings]
    if observations is None:
        observations = encode([[reading] for reading in channels.readings], prior.dimension)
    table = _table(prior, observations, channels)
    ends = np.searchsorted(channels.entities, np.arange(len(readings) + 1)).tolist()
    return [table[start:end] for start, end in pairwise(ends)]


class Channels(NamedTuple):
    """Readings of single channels, with the entity of each and whether it is the first of its sensor."""

    readings: list[Reading]
    entities: list[int]
    first: list[bool]

    @classmethod
    def of(cls, readings: Sequence[Sequence[Reading]]) -> Channels:
        channels = cls([], [], [])
        for entity, several in enumerate(readings):
            seen: set[int] = set()
            for reading in several:
                is_first = id(reading.sensor) not in seen
                seen.add(id(reading.sensor))
                for channel in _split(reading):
                    channels.readings.append(channel)
                    channels.entities.append(entity)
                    channels.first.append(is_first)
        return channels


def _split(reading: Reading) -> Sequence[Reading]:
    """The readings of single channels; a problem has no residual, so that its numbers only keep their places."""
    if reading.sensor.kind == LIKELIHOOD:
        return [reading] * reading.sensor.value_length
    if reading.sensor.parts:
        return [channel for part in expand(reading) for channel in _split(part)]
    channels = reading.sensor.channels
    if len(channels) == 1 and channels[0] is reading.sensor:
        return (reading,)
    covariance = reading.covariance
    return [
        Reading(
            channel,
            reading.value[row : row + 1],
            None if covariance is None else covariance[row : row + 1, row : row + 1],
        )
        for row, channel in enumerate(channels)
    ]


def _table(prior: GaussianMixture, observations: Observations, channels: Channels) -> Array:
    """The fits of all channels."""
    sign = np.sign([reading.sensor.scale for reading in channels.readings])
    value = np.array([reading.value[0] for reading in channels.readings], dtype=float)
    entity, first = np.array(channels.entities), np.array(channels.first)
    stated = observations.outlier_probability[:, 0].numpy(), observations.log_scale[:, 0].numpy()
    seen, _ = observations.at(prior.means[torch.from_numpy(entity)])
    return native_fits.table(prior, seen, native_fits.Channels(entity, first, sign, value, *stated))
