"""Posteriors as they come, decoded by msgspec, which is several times as fast as pydantic."""

from __future__ import annotations

import math
import re
from functools import lru_cache

import msgspec

from beliefstream.schemas import Posterior
from beliefstream.schemas.base import MAXIMUM_COORDINATES, is_name
from beliefstream.schemas.posterior import Likelihood, Method
from beliefstream.schemas.time import EARLIEST, LATEST

__all__ = [
    "PlainCoordinate",
    "PlainPosterior",
    "are_sound",
    "coordinates_of",
    "mixture_of",
    "plain",
    "posterior_of",
]

MOST_BYTES = 250_000  # longer messages may have more parts than `Posterior` accepts
_TEXT = re.compile(r"[ -~]{1,32}")  # printable ASCII, a part of `schemas.base.Unit`


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
    likelihood_error: float | None = None
    outside_training: float | None = None
    accumulated_error: float | None = None


class PlainPosterior(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """As `schemas.Posterior`; coordinates and mixture are decoded when they are asked for."""

    entity: str
    time: float
    sequence: int
    revision: int
    coordinates_json: msgspec.Raw = msgspec.field(name="coordinates")
    mixture_json: msgspec.Raw = msgspec.field(name="mixture")
    quality: PlainQuality
    applied: list[str]
    prior_sequence: int
    model: str
    model_version: int

    @property
    def coordinates(self) -> tuple[PlainCoordinate, ...]:
        """Name and unit of each coordinate."""
        return coordinates_of(bytes(self.coordinates_json))

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """The names of the coordinates, in order."""
        return tuple(coordinate.name for coordinate in self.coordinates)

    @property
    def mixture(self) -> PlainMixture:
        """The belief."""
        return mixture_of(self.mixture_json)


_decode = msgspec.json.Decoder(PlainPosterior, strict=True).decode
mixture_of = msgspec.json.Decoder(PlainMixture, strict=True).decode
_decode_coordinates = msgspec.json.Decoder(tuple[PlainCoordinate, ...], strict=True).decode


def posterior_of(raw: bytes | None) -> PlainPosterior | None:
    """The message, if all but its coordinates and its mixture makes sense; otherwise None."""
    if raw is None or len(raw) > MOST_BYTES:
        return None
    try:
        found = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    quality = found.quality
    sound = (
        EARLIEST <= found.time <= LATEST
        and 0 <= quality.effective_sample_size <= 1
        and 0 <= quality.surprise <= 1
        and -math.inf < quality.log_evidence < math.inf
        and (quality.accumulated_error is None or 0 <= quality.accumulated_error < math.inf)
        and (quality.likelihood_error is None or 0 <= quality.likelihood_error < math.inf)
        and (quality.outside_training is None or 0 <= quality.outside_training < math.inf)
        and found.sequence >= 1
        and found.model_version >= 1
        and found.revision >= 0
        and found.prior_sequence >= 0
        and _is_name(found.entity)
        and _is_name(found.model)
    )
    return found if sound else None


def plain(posterior: Posterior) -> PlainPosterior:
    """The same posterior."""
    return _decode(posterior.to_json())


@lru_cache(8192)
def _is_name(name: str) -> bool:
    return bool(is_name(name.encode()))


@lru_cache(1024)
def coordinates_of(raw: bytes) -> tuple[PlainCoordinate, ...]:
    """Decode the coordinates of a message; none if they are not what they should be."""
    try:
        return _decode_coordinates(raw)
    except msgspec.DecodeError:
        return ()


@lru_cache(1024)
def are_sound(coordinates: tuple[PlainCoordinate, ...]) -> bool:
    """Whether the coordinates make sense."""
    are_known = all(_is_name(each.name) and _TEXT.fullmatch(each.unit) for each in coordinates)
    return 1 <= len(coordinates) <= MAXIMUM_COORDINATES and are_known
