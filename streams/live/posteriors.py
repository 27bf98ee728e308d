"""Posteriors as they come, decoded by msgspec, which is several times as fast as pydantic."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from beliefstream.schemas import Posterior
from beliefstream.schemas.base import MAXIMUM_COORDINATES, is_name
from beliefstream.schemas.beliefs.mixture import MAXIMUM_COMPONENTS
from beliefstream.schemas.beliefs.posterior import LONGEST_ERROR_NAME, Likelihood, Method
from beliefstream.schemas.time import EARLIEST, LATEST

MOST_BYTES = 250_000  # longer messages may have more parts than `Posterior` accepts
_TEXT = re.compile(r"[ -~]{1,32}")  # printable ASCII, a part of `schemas.base.Unit`
_WEIGHT_TOLERANCE = 1e-6

# of JSON's numbers msgspec takes finite ones only
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Number = Annotated[int, msgspec.Meta(ge=1)]


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

    sample_efficiency: Share
    log_evidence: float
    p_value: Share
    method: Method
    likelihood: Likelihood = "exact"
    likelihood_error: NotNegative | None = None
    outside_training: NotNegative | None = None
    accumulated_error: NotNegative | None = None


class PlainSensorError(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """As `schemas.SensorError`."""

    name: Annotated[str, msgspec.Meta(max_length=LONGEST_ERROR_NAME)]
    mean: float
    standard_deviation: Positive


class PlainPosterior(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """As `schemas.Posterior`."""

    entity: str
    time: Annotated[float, msgspec.Meta(ge=EARLIEST, le=LATEST)]
    sequence: Number
    revision: Count
    coordinates: tuple[PlainCoordinate, ...]
    mixture: PlainMixture
    quality: PlainQuality
    applied: list[str]
    prior_sequence: Count
    model: str
    model_version: Number
    errors: tuple[PlainSensorError, ...] = ()

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """The names of the coordinates, in order."""
        return tuple(coordinate.name for coordinate in self.coordinates)


_decode = msgspec.json.Decoder(PlainPosterior, strict=True).decode


def posterior_of(raw: bytes | None) -> PlainPosterior | None:
    """The message, if all but the numbers of its mixture makes sense; otherwise None."""
    if raw is None or len(raw) > MOST_BYTES:
        return None
    try:
        found = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    is_sound = _is_name(found.entity) and _is_name(found.model) and _are_sound(found.coordinates)
    return found if is_sound else None


def plain(posterior: Posterior) -> PlainPosterior:
    """The same posterior."""
    return _decode(posterior.to_json())


@lru_cache(8192)
def _is_name(name: str) -> bool:
    return bool(is_name(name.encode()))


@lru_cache(1024)
def _are_sound(coordinates: tuple[PlainCoordinate, ...]) -> bool:
    """Whether the coordinates make sense."""
    are_known = all(_is_name(each.name) and _TEXT.fullmatch(each.unit) for each in coordinates)
    return 1 <= len(coordinates) <= MAXIMUM_COORDINATES and are_known


Array = NDArray[np.float64]


@dataclass
class Group:
    """Posteriors over the same coordinates, of the same number of components."""

    coordinates: tuple[PlainCoordinate, ...]
    places: list[int]  # of each posterior among those that were given
    posteriors: list[PlainPosterior]
    weights: Array  # (N, K)
    means: Array  # (N, K, D)
    covariances: Array  # (N, K, D, D)

    @property
    def components(self) -> int:
        """Number of components."""
        return int(self.weights.shape[1])

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """The names of the coordinates, in order."""
        return tuple(coordinate.name for coordinate in self.coordinates)

    @cached_property
    def marginals(self) -> NDArray[np.float32]:
        """Weights (K,), means (K, D) and variances (K, D) of each, flattened."""
        count = len(self.places)
        variances = np.diagonal(self.covariances, axis1=2, axis2=3)
        parts = (self.weights, self.means.reshape(count, -1), variances.reshape(count, -1))
        with np.errstate(over="ignore"):
            return np.concatenate(parts, axis=1).astype("<f4")

    def only(self, wanted: NDArray[np.bool_]) -> Group:
        """Those that are wanted."""
        kept = np.flatnonzero(wanted).tolist()
        places, posteriors = [self.places[row] for row in kept], [self.posteriors[row] for row in kept]
        arrays = self.weights[kept], self.means[kept], self.covariances[kept]
        return Group(self.coordinates, places, posteriors, *arrays)


def read_posteriors(raws: Sequence[bytes | None]) -> tuple[list[Group], list[int]]:
    """Decode messages.

    `read_posteriors` leaves what it does not take to `schemas.parse`, which decides. Of covariances it checks their
    number and their diagonals alone: workers have checked that they are positive definite.

    Returns:
        The posteriors, and the places of the messages that `schemas.parse` must decide about.
    """
    found = [(place, posterior) for place, raw in enumerate(raws) if (posterior := posterior_of(raw))]
    groups = [_sound(group) for group in groups_of(found)]
    taken = {place for group in groups for place in group.places}
    return groups, [place for place in range(len(raws)) if place not in taken]


def groups_of(posteriors: Iterable[tuple[int, PlainPosterior]]) -> list[Group]:
    """Group posteriors, given with their places; those whose mixture has another shape are left out."""
    parts: dict[tuple[tuple[PlainCoordinate, ...], int], tuple[list[int], list[PlainPosterior], array[float]]]
    parts = {}
    for place, posterior in posteriors:
        row = _numbers(posterior.mixture, len(posterior.coordinates))
        if row is None:
            continue
        part = parts.setdefault((posterior.coordinates, len(row)), ([], [], array("d")))
        part[0].append(place)
        part[1].append(posterior)
        part[2].extend(row)
    return [_group(coordinates, *part) for (coordinates, _), part in parts.items()]


def _group(
    coordinates: tuple[PlainCoordinate, ...],
    places: list[int],
    posteriors: list[PlainPosterior],
    rows: array[float],
) -> Group:
    size = len(coordinates)
    numbers = np.frombuffer(rows).reshape(len(places), -1)
    components = numbers.shape[1] // (1 + size + size**2)
    shapes = (components,), (components, size), (components, size, size)
    parts = np.split(numbers, np.cumsum([components, components * size]), axis=1)
    arrays = (part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True))
    return Group(coordinates, places, posteriors, *arrays)


def _numbers(mixture: PlainMixture, size: int) -> array[float] | None:
    """Weights, means and covariances, one after the other; None for another shape."""
    weights, means, covariances = mixture.weights, mixture.means, mixture.covariances
    rows = list(chain.from_iterable(covariances))
    sizes = chain(map(len, means), map(len, covariances), map(len, rows))
    if not 0 < len(weights) <= MAXIMUM_COMPONENTS or any(each != size for each in sizes):
        return None
    if not len(weights) == len(means) == len(covariances):
        return None
    return array("d", chain(weights, *means, *rows))


def _sound(group: Group) -> Group:
    """Those whose numbers make sense."""
    weights, variances = group.weights, np.diagonal(group.covariances, axis1=2, axis2=3)
    is_sound = (weights >= 0).all(axis=1) & (abs(weights.sum(axis=1) - 1) <= _WEIGHT_TOLERANCE)
    is_sound &= (variances > 0).all(axis=(1, 2))
    return group if is_sound.all() else group.only(is_sound)
