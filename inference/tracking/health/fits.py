"""How well each reported number fits its prediction, for a batch of entities at once.

The prediction of a scalar observation is a mixture: the components of the predicted belief, linearised at their means,
times those of the noise. If the model, the sensor's definition and the belief are right, the reported value is a draw
from it. Then its normal score ``z = Φ⁻¹(F(y))`` is standard normal, whatever the prediction (Rosenblatt, "Remarks on a
multivariate transformation", Annals of Mathematical Statistics 23, 1952). A wide belief makes a wide prediction. So
each score comes with the share of the prediction's variance that is noise of the sensor: little says little.

Every number of a reading is one row, a *channel* of its sensor. The rows of a vector are judged by their marginals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import LIKELIHOOD, LINEAR, WIDE_OUTLIER, Observations
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture
from beliefstream.inference.mixtures.native_forms import native_form
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, expand
from beliefstream.inference.tracking.health.columns import ASSUMED_OUTLIERS, Array, Fit
from beliefstream.inference.tracking.health.limits import BENT, FEWEST_SHARED, SMALLEST, WIDEST_ANGLE

__all__ = ["fits"]

_NODES = torch.tensor(
    [-math.sqrt(3.0), 0.0, math.sqrt(3.0)], dtype=torch.float64
)  # Gauss-Hermite, three points
_NODE_WEIGHTS = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)


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
        found = cls([], [], [])
        for entity, several in enumerate(readings):
            seen: set[int] = set()
            for reading in several:
                is_first = id(reading.sensor) not in seen
                seen.add(id(reading.sensor))
                for channel in _split(reading):
                    found.readings.append(channel)
                    found.entities.append(entity)
                    found.first.append(is_first)
        return found


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


class _Prediction(NamedTuple):
    """Predictive mixtures of ``N`` channels with ``M`` components, in units of the stated noise."""

    weights: Tensor  # (N, M)
    offsets: Tensor  # (N, M) reported value minus the component's mean
    variances: Tensor  # (N, M)
    outlier: Tensor  # (N,) log density of the value as an outlier ten times as wide
    spread: Tensor  # (N,) standard deviation of the whole prediction
    noise: Tensor  # (N,) variance of the noise in it
    mean_offset: Tensor  # (N,)
    bent: Tensor  # (N,) variance by curvature over the other variance

    @classmethod
    def of(cls, prior: GaussianMixture, factors: Tensor, observations: Observations) -> _Prediction:
        linear = observations.linearise(prior.means, factors)
        is_linear = observations.kind == LINEAR
        base = observations.standard_deviation
        difference = observations.difference(prior.means)
        scaled = (linear.residuals.deviation / base[:, None]).expand_as(difference)
        scaled = torch.where(is_linear[:, None], 1.0, scaled)[..., 0]
        own = (observations.deviation(observations.magnitude(difference)) / base[:, None])[..., 0]
        own = torch.where(is_linear, 1.0, own).expand_as(scaled)
        offset = torch.where(is_linear, linear.residuals.signed[..., 0], difference[..., 0] / base)
        hessian = linear.curvature[:, :, 0] * scaled[..., None, None]
        offset = offset - 0.5 * hessian.diagonal(dim1=-2, dim2=-1).sum(-1)
        curved = 0.5 * hessian.square().sum((-2, -1))
        slope = linear.information[:, :, 0].diagonal(dim1=-2, dim2=-1).sum(-1) * scaled.square()
        weights = prior.log_weights.exp()
        return cls._with_noise(weights, offset, slope, curved, own, observations)

    @classmethod
    def _with_noise(
        cls,
        weights: Tensor,
        offset: Tensor,
        slope: Tensor,
        curved: Tensor,
        own: Tensor,
        observed: Observations,
    ) -> _Prediction:
        """Combine the components of the belief ``(N, K)`` with those of the noise."""
        outlier = _log_density(weights, offset, slope + curved + WIDE_OUTLIER**2)
        bent = (weights * curved).sum(1) / (weights * (slope + own.square())).sum(1)
        mean, deviation = torch.zeros_like(own), own
        if observed.mixture is not None:
            noise = observed.mixture.map(lambda tensor: tensor[:, 0])
            bias = noise.bias / observed.standard_deviation
            shares = noise.log_weights.exp()
            mean = (shares * bias).sum(-1, keepdim=True).expand_as(own)
            square = own.square()[..., None] * noise.ratio.square()[:, None]
            square = square + (bias[:, None] - mean[..., None]).square()
            deviation = (shares[:, None] * square).sum(-1).sqrt()
            components = (weights[..., None] * shares[:, None]).flatten(1)
            offsets = (offset[..., None] - bias[:, None]).flatten(1)
            wide = own.square()[..., None] * noise.ratio.square()[:, None]
            variances = ((slope + curved)[..., None] + wide).flatten(1)
        else:
            components, offsets, variances = weights, offset, slope + curved + own.square()
        middle = (weights * (offset - mean)).sum(1)
        whole = weights * (slope + curved + deviation.square() + (offset - mean - middle[:, None]).square())
        variance = (weights * deviation.square()).sum(1)
        spread = whole.sum(1).sqrt()
        return cls(components, offsets, variances, outlier, spread, variance, middle, bent)

    def log_density(self) -> Tensor:
        """Log density of the value as an inlier, ``(N,)``."""
        return _log_density(self.weights, self.offsets, self.variances)

    def scores(self) -> Tensor:
        """Normal scores ``(N,)``, by the nearer tail."""
        scaled = self.offsets / (2 * self.variances).sqrt()
        # `torch.special.ndtr` is zero beyond 8.3 deviations (PyTorch 2.15)
        below = (self.weights * torch.special.erfc(-scaled) / 2).sum(1)
        above = (self.weights * torch.special.erfc(scaled) / 2).sum(1)
        tail = torch.special.ndtri(torch.minimum(below, above).clamp(SMALLEST, 0.5))
        return torch.where(below < above, tail, -tail)

    def expected_log_density(self) -> Tensor:
        """Expectation of `log_density` over the prediction, ``(N,)``; by quadrature where it is no Gaussian."""
        largest = self.weights.argmax(1, keepdim=True)
        one = self.variances.gather(1, largest)[:, 0]
        found = -0.5 * (LOG_TWO_PI + one.log() + 1.0)
        several = torch.nonzero(self.weights.amax(1) < 1 - FEWEST_SHARED)[:, 0]
        if len(several):
            weights, offsets, variances = (part[several] for part in self[:3])
            # the offset of a draw from component k is its distance from the value's own offset
            points = variances.sqrt()[..., None] * _NODES
            shifted = points[..., None] + (offsets[:, None] - offsets[:, :, None])[:, :, None]
            logs = (weights / variances.sqrt()).log()[:, None, None]
            logs = logs - 0.5 * (shifted.square() / variances[:, None, None] + LOG_TWO_PI)
            inner = (torch.logsumexp(logs, -1) * _NODE_WEIGHTS).sum(-1)
            found[several] = torch.where(weights > 0, weights * inner, 0.0).sum(1)
        return found


def _log_density(weights: Tensor, offsets: Tensor, variances: Tensor) -> Tensor:
    logs = weights.log() - 0.5 * (offsets.square() / variances + variances.log() + LOG_TWO_PI)
    return torch.logsumexp(logs, 1)


def _table(prior: GaussianMixture, observations: Observations, channels: Channels) -> Array:
    """The fits of all channels; on the CPU, `native_fits` finds them without PyTorch's operators."""
    sign = np.sign([reading.sensor.scale for reading in channels.readings])
    value = np.array([reading.value[0] for reading in channels.readings], dtype=float)
    entity, first = np.array(channels.entities), np.array(channels.first)
    native = native_form("tracking.health.native_fits", prior.means, prior.log_weights)
    if native is not None and observations.native is not None:
        stated = observations.outlier_probability[:, 0].numpy(), observations.log_scale[:, 0].numpy()
        found: Array = native.table(
            prior, observations.native, native.Channels(entity, first, sign, value, *stated)
        )
        return found
    index = torch.from_numpy(entity)
    predicted = _Prediction.of(prior.rows(index), prior.factors()[index], observations)
    parts = (torch.from_numpy(part) for part in (sign, value, first))
    return _by_operators(predicted, observations, *parts)


def _by_operators(
    predicted: _Prediction, observations: Observations, sign: Tensor, value: Tensor, first: Tensor
) -> Array:
    log_density, stated = predicted.log_density(), observations.outlier_probability[:, 0]
    states_none = stated == 0
    probability = torch.where(states_none, ASSUMED_OUTLIERS, stated)
    log_scale = observations.log_scale[:, 0]
    own_density = observations.outlier_log_density[:, 0] + log_scale
    wide = states_none | (observations.kind[:, 0] == LINEAR)
    outlier = torch.where(wide, predicted.outlier, own_density)
    log_odds = torch.log1p(-probability) - probability.log() + log_density - outlier
    share = (predicted.noise.sqrt() / predicted.spread).clamp(max=1.0)
    vague = observations.wraps[:, 0] & (
        predicted.spread * observations.standard_deviation[:, 0] > WIDEST_ANGLE
    )
    excess = log_density - predicted.expected_log_density()
    unit = log_scale.exp()
    columns = (
        predicted.scores() * sign,
        log_odds,
        share,
        predicted.spread * unit,
        value - predicted.mean_offset * unit * sign,
        excess,
        probability,
    )
    table = torch.stack(columns, 1)
    judged = first & (predicted.bent <= BENT) & ~vague & table.isfinite().all(1)
    judged &= observations.kind[:, 0] != LIKELIHOOD
    table[:, Fit.SHARE] = torch.where(judged, share, 0.0)
    return torch.nan_to_num(table).numpy()
