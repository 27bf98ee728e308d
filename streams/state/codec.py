"""Binary codec for beliefs."""

from __future__ import annotations

import functools
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from beliefstream.inference.sensors.readings import ControlReading
from beliefstream.inference.tracking.accumulated_error import NO_ERROR, AccumulatedError
from beliefstream.inference.tracking.events import Belief

# components, dimension, flags, control inputs, time
_BELIEF = struct.Struct("<BBBBd")
_TRIANGLES = 1  # flag: the record has only the lower triangles of the covariances
_WITH_ERROR = 2  # flag, since record version 5: the record ends with the accumulated error
_ERROR_NUMBERS = len(NO_ERROR)

P = ParamSpec("P")
R = TypeVar("R")

StoredBelief = bytes | Belief
"""A belief, encoded or not encoded yet."""


class UnknownVersion(ValueError):
    """A changelog record was written by another version of Beliefstream."""


class DamagedRecord(ValueError):
    """A changelog record is damaged, or is no belief."""


def reports_damage(decode: Callable[P, R]) -> Callable[P, R]:
    """Decorator that turns decoding errors into DamagedRecord."""

    @functools.wraps(decode)
    def wrapper(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return decode(*arguments, **options)
        except (UnknownVersion, DamagedRecord):
            raise
        except (struct.error, IndexError, ValueError) as error:
            raise DamagedRecord(f"changelog: a record cannot be decoded: {error}") from error

    return wrapper


def checked_end(raw: bytes, place: int) -> int:
    """Return `place` if the bytes are long enough; raises DamagedRecord."""
    if place > len(raw):
        raise DamagedRecord(f"changelog: a record ends early: it has {len(raw)} bytes and needs {place}")
    return place


@functools.lru_cache(1024)
def join_names(names: tuple[str, ...]) -> bytes:
    """Encode names as one line each."""
    return "\n".join(names).encode()


@functools.lru_cache(1024)
def split_names(joined: str) -> tuple[str, ...]:
    """Return the names of `join_names`; the same object for the same names."""
    return tuple(joined.split("\n")) if joined else ()


def belief_from_array(time: float, count: int, size: int, numbers: NDArray[np.float64]) -> Belief:
    """Build a belief from one array: weights, means and whole covariances, in that order."""
    weights, means, covariances = np.split(numbers.copy(), (count, count + count * size))
    return Belief(time, weights, means.reshape(count, size), covariances.reshape(count, size, size))


@functools.cache
def _triangles(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """The indices of both triangles in a flat matrix, and of the matrix in the lower triangle."""
    rows, columns = np.tril_indices(size)
    where = np.zeros((size, size), dtype=np.intp)
    where[rows, columns] = where[columns, rows] = np.arange(len(rows))
    return rows * size + columns, columns * size + rows, where.ravel()


def encode_belief(state: StoredBelief | None) -> bytes:
    """Encode a belief without loss; None gives no bytes."""
    if state is None:
        return b""
    if isinstance(state, bytes):
        return state
    count, size = state.means.shape
    lower, upper, _ = _triangles(size)
    flat = state.covariances.reshape(count, size * size)
    half = flat.take(lower, axis=1)
    symmetric = half.tobytes() == flat.take(upper, axis=1).tobytes()
    parts: tuple[NDArray[np.float64], ...] = (state.weights, state.means, half if symmetric else flat)
    inputs, flags = 0, _TRIANGLES if symmetric else 0
    if state.control is not None:
        inputs = len(state.control.value)
        parts = (*parts, state.control.value, state.control.covariance)
    if state.error != NO_ERROR:  # without an error the format is that before version 5
        parts, flags = (*parts, np.array(state.error)), flags | _WITH_ERROR
    header = _BELIEF.pack(count, size, flags, inputs, state.time)
    return header + b"".join(np.ascontiguousarray(part, dtype="<f8").tobytes() for part in parts)


def encode_beliefs(beliefs: Sequence[Belief]) -> list[bytes]:
    """Encode beliefs as `encode_belief` does; those of one shape together, in half the time."""
    groups: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
    for index, belief in enumerate(beliefs):
        if belief.control is None:
            count, size = belief.means.shape
            groups[count, size, belief.error != NO_ERROR].append(index)
    encoded: list[bytes] = [b""] * len(beliefs)
    for (count, size, with_error), places in groups.items():
        for chosen, flag, rows in _rows([beliefs[place] for place in places], with_error):
            header = count, size, flag | (_WITH_ERROR if with_error else 0), 0
            raw, width = rows.tobytes(), 8 * rows.shape[1]
            for start, row in zip(range(0, len(raw), width), chosen, strict=True):
                place = places[row]
                encoded[place] = _BELIEF.pack(*header, beliefs[place].time) + raw[start : start + width]
    return [found or encode_belief(belief) for found, belief in zip(encoded, beliefs, strict=True)]


def _rows(
    beliefs: Sequence[Belief], with_error: bool
) -> Iterator[tuple[list[int], int, NDArray[np.float64]]]:
    """Places, flag and numbers, a row each, of beliefs of one shape: those with symmetric covariances, and others."""
    number, (count, size) = len(beliefs), beliefs[0].means.shape
    lower, upper, _ = _triangles(size)
    # `np.stack` takes several times as long as `np.concatenate`
    flat = np.concatenate([belief.covariances for belief in beliefs]).reshape(number, count, size * size)
    half, other = flat.take(lower, axis=2), flat.take(upper, axis=2)
    weights = np.concatenate([belief.weights for belief in beliefs]).reshape(number, count)
    means = np.concatenate([belief.means for belief in beliefs]).reshape(number, count * size)
    errors = [np.array([belief.error for belief in beliefs])] if with_error else []
    # as bits, because a zero has two signs
    symmetric = (half.view(np.int64) == other.view(np.int64)).all(axis=(1, 2))
    for chosen, flag, covariances in ((symmetric, _TRIANGLES, half), (~symmetric, 0, flat)):
        places = np.flatnonzero(chosen)
        if len(places):
            parts = [part[places] for part in (weights, means, covariances.reshape(number, -1), *errors)]
            yield places.tolist(), flag, np.concatenate(parts, axis=1).astype("<f8", copy=False)


def encoded_size(raw: bytes, place: int) -> int:
    """The size in bytes of the belief that begins at `place`."""
    count, size, flags, inputs, _ = _BELIEF.unpack_from(raw, place)
    error = _ERROR_NUMBERS if flags & _WITH_ERROR else 0
    numbers = _numbers(count, size, bool(flags & _TRIANGLES))
    return int(_BELIEF.size + 8 * (numbers + inputs * (inputs + 1) + error))


def has_error(state: StoredBelief | None) -> bool:
    """Whether the stored belief has an accumulated error, which programs before version 5 cannot read."""
    if isinstance(state, bytes):
        return len(state) > 2 and bool(state[2] & _WITH_ERROR)
    return state is not None and state.error != NO_ERROR


def _numbers(count: int, size: int, symmetric: bool) -> int:
    return count * (1 + size + (size * (size + 1) // 2 if symmetric else size * size))


@reports_damage
def decode_belief(state: StoredBelief | None) -> Belief | None:
    """Decode a stored belief, if there is one; raises DamagedRecord.

    A belief stored before version 5 gets an accumulated error of 0, because its real one is not known.
    """
    if not isinstance(state, bytes):
        return state
    count, size, flags, inputs, time = _BELIEF.unpack_from(state)
    symmetric = bool(flags & _TRIANGLES)
    numbers = np.frombuffer(state, "<f8", offset=_BELIEF.size)
    control, error = None, NO_ERROR
    if flags & _WITH_ERROR:
        numbers, last = np.split(numbers, [len(numbers) - _ERROR_NUMBERS])
        error = AccumulatedError(*last.tolist())
    if inputs:
        numbers, held = np.split(numbers, [_numbers(count, size, symmetric)])
        control = ControlReading(held[:inputs].copy(), held[inputs:].reshape(inputs, inputs).copy())
    if not symmetric:
        return replace(belief_from_array(time, count, size, numbers), control=control, error=error)
    weights, means, half = np.split(numbers, (count, count + count * size))
    covariances = half.reshape(count, -1).take(_triangles(size)[2], axis=1)
    shape = (count, size, size)
    return Belief(
        time, weights.copy(), means.reshape(count, size).copy(), covariances.reshape(shape), control, error
    )
