"""Fast decoding of posteriors: the page reads thousands a second, and pydantic takes several times as long.

`plain_posterior` returns None for what it does not take. The caller parses that with `schemas.parse`, which decides.
Of covariances it checks shape and diagonal alone: workers have checked that they are positive definite.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

import msgspec

from beliefstream.schemas import Posterior
from beliefstream.schemas.base import MAXIMUM_COORDINATES, is_name
from beliefstream.schemas.mixture import MAXIMUM_COMPONENTS
from beliefstream.schemas.posterior import Likelihood, Method
from beliefstream.schemas.time import EARLIEST, LATEST

__all__ = ["AnyPosterior", "PlainPosterior", "plain_posterior"]

MOST_BYTES = 250_000  # longer messages may have more parts than `Posterior` accepts
_TEXT = re.compile(r"[ -~]{1,32}")  # printable ASCII, a part of `schemas.base.Unit`
_WEIGHT_TOLERANCE = 1e-6


class PlainCoordinate(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """As `schemas.Coordinate`."""

    name: str
    unit: str


class PlainMixture(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """As `schemas.Mixture`."""

    weights: list[float]
    means: list[list[float]]
    covariances: list[list[list[float]]]

    @property
    def components(self) -> int:
        """Number of components."""
        return len(self.weights)

    def mean(self) -> list[float]:
        """Mean of each coordinate."""
        return [
            math.fsum(weight * value for weight, value in zip(self.weights, column, strict=True))
            for column in zip(*self.means, strict=True)
        ]


class PlainQuality(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """As `schemas.Quality`."""

    effective_sample_size: float
    log_evidence: float
    surprise: float
    method: Method
    likelihood: Likelihood = "exact"
    accumulated_error: float | None = None


class PlainPosterior(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """As `schemas.Posterior`, in the fields that the page reads."""

    entity: str
    time: float
    sequence: int
    revision: int
    coordinates: list[PlainCoordinate]
    mixture: PlainMixture
    quality: PlainQuality
    applied: list[str]
    prior_sequence: int
    model: str
    model_version: int

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """The names of the coordinates, in order."""
        return tuple(coordinate.name for coordinate in self.coordinates)


AnyPosterior = Posterior | PlainPosterior

_decode = msgspec.json.Decoder(PlainPosterior, strict=True).decode


def plain_posterior(raw: bytes | None) -> PlainPosterior | None:
    """Return the posterior, or None for a message that `schemas.parse` must decide about."""
    if raw is None or len(raw) > MOST_BYTES:
        return None
    try:
        found = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    quality = found.quality
    sound = (
        EARLIEST <= found.time <= LATEST
        and _are_names(found.entity, found.model, *(each.name for each in found.coordinates))
        and all(_is_unit(each.unit) for each in found.coordinates)
        and 0 <= quality.effective_sample_size <= 1
        and 0 <= quality.surprise <= 1
        and abs(quality.log_evidence) < math.inf
        and (quality.accumulated_error is None or 0 <= quality.accumulated_error < math.inf)
        and min(found.sequence, found.model_version) >= 1
        and min(found.revision, found.prior_sequence) >= 0
        and _is_sound(found.mixture, len(found.coordinates))
    )
    return found if sound else None


def _is_sound(mixture: PlainMixture, size: int) -> bool:
    weights, means, covariances = mixture.weights, mixture.means, mixture.covariances
    if not 1 <= len(weights) <= MAXIMUM_COMPONENTS or not 1 <= size <= MAXIMUM_COORDINATES:
        return False
    if not len(weights) == len(means) == len(covariances):
        return False
    if min(weights) < 0 or abs(math.fsum(weights) - 1) > _WEIGHT_TOLERANCE:
        return False
    for mean, rows in zip(means, covariances, strict=True):
        if len(mean) != size or len(rows) != size:
            return False
        for place, row in enumerate(rows):
            if len(row) != size or not row[place] > 0:
                return False
    return True


@lru_cache(4096)
def _are_names(*names: str) -> bool:
    return all(is_name(name.encode()) for name in names)


@lru_cache(1024)
def _is_unit(unit: str) -> bool:
    return _TEXT.fullmatch(unit) is not None
