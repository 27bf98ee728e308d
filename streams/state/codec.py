"""Binary encoding of beliefs.

A belief is a header (`_BELIEF`), then little-endian float64: weights (K,), means (K, D), covariances (K, D, D), the
inputs of the motion with their covariance, and the accumulated error. Of covariances that are symmetric to the last bit
only the lower triangles are written. Where there are modes of the motion noise, their number and that of the components
of each follow, a byte each; where the last coordinates are hidden, their errors and the times of their last reports.
"""

from __future__ import annotations

import functools
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.sensors.persistent import PersistentError
from beliefstream.inference.sensors.readings import ControlReading
from beliefstream.inference.tracking.accumulated_error import NO_ERROR, AccumulatedError
from beliefstream.inference.tracking.events import NO_HIDDEN, Belief, Hidden

# components, dimension, flags, inputs of the motion, time
_BELIEF = struct.Struct("<BBBBd")
# flags: the covariances are lower triangles; hidden coordinates follow; modes follow
_SYMMETRIC, _HAS_HIDDEN, _HAS_MODES = 1, 2, 4
_COUNT = struct.Struct("<H")
# deviation, correlation time, time of the last report, length of the name
_HIDDEN = struct.Struct("<dddH")

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


@functools.cache
def _triangles(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """The indices of both triangles in a flat matrix, and of the matrix in the lower triangle."""
    rows, columns = np.tril_indices(size)
    where = np.zeros((size, size), dtype=np.intp)
    where[rows, columns] = where[columns, rows] = np.arange(len(rows))
    return rows * size + columns, columns * size + rows, where.ravel()


def encode_beliefs(beliefs: Sequence[Belief]) -> list[bytes]:
    """Encode beliefs without loss; those of one shape are converted together."""
    groups: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    for index, belief in enumerate(beliefs):
        (count, size), inputs = belief.means.shape, 0 if belief.control is None else len(belief.control.value)
        groups[count, size, inputs].append(index)
    encoded: list[bytes] = [b""] * len(beliefs)
    for (count, size, inputs), places in groups.items():
        for chosen, symmetric, rows in _rows([beliefs[place] for place in places]):
            raw, width = rows.tobytes(), 8 * rows.shape[1]
            for start, row in zip(range(0, len(raw), width), chosen, strict=True):
                place = places[row]
                belief = beliefs[place]
                flags = _SYMMETRIC * symmetric | _HAS_HIDDEN * bool(belief.hidden.errors)
                flags |= _HAS_MODES * bool(belief.modes)
                modes = bytes([len(belief.modes), *belief.modes]) if belief.modes else b""
                header = _BELIEF.pack(count, size, flags, inputs, belief.time)
                encoded[place] = header + raw[start : start + width] + modes + _encoded(belief.hidden)
    return encoded


def _rows(beliefs: Sequence[Belief]) -> Iterator[tuple[list[int], bool, NDArray[np.float64]]]:
    """Indices, whether their covariances are symmetric, and a row of numbers each, of beliefs of one shape."""
    number, (count, size) = len(beliefs), beliefs[0].means.shape
    lower, upper, _ = _triangles(size)
    # `np.stack` takes several times as long as `np.concatenate`
    flat = np.concatenate([belief.covariances for belief in beliefs]).reshape(number, count, size * size)
    half, other = flat.take(lower, axis=2), flat.take(upper, axis=2)
    weights = np.concatenate([belief.weights for belief in beliefs]).reshape(number, count)
    means = np.concatenate([belief.means for belief in beliefs]).reshape(number, count * size)
    controls = [[*each.control.value, *each.control.covariance.flat] for each in beliefs if each.control]
    errors = np.array([belief.error for belief in beliefs])
    rest = [np.array(controls), errors] if controls else [errors]
    # as bits, because a zero has two signs
    symmetric = (half.view(np.int64) == other.view(np.int64)).all(axis=(1, 2))
    for chosen, is_half, covariances in ((symmetric, True, half), (~symmetric, False, flat)):
        places = np.flatnonzero(chosen)
        if len(places):
            parts = [part[places] for part in (weights, means, covariances.reshape(number, -1), *rest)]
            yield places.tolist(), is_half, np.concatenate(parts, axis=1).astype("<f8", copy=False)


@reports_damage
def decode_belief(state: StoredBelief | None) -> Belief | None:
    """Decode a stored belief, if there is one; raises DamagedRecord."""
    if not isinstance(state, bytes):
        return state
    count, size, flags, inputs, time = _BELIEF.unpack_from(state)
    symmetric, hidden, modes = bool(flags & _SYMMETRIC), NO_HIDDEN, tuple[int, ...]()
    entries = size * (size + 1) // 2 if symmetric else size * size
    lengths = count, count * size, count * entries, inputs, inputs * inputs, len(NO_ERROR)
    end = _BELIEF.size + 8 * sum(lengths)
    rest, state = (state[end:], state[:end]) if flags & (_HAS_HIDDEN | _HAS_MODES) else (b"", state)
    if flags & _HAS_MODES:
        end = 1 + rest[0] if rest else 0
        modes, rest = tuple(rest[1:end]), rest[end:]
        if sum(modes) != count:
            raise DamagedRecord(f"changelog: modes have {sum(modes)} components instead of {count}")
    if flags & _HAS_HIDDEN:
        hidden = _decoded(rest)
    elif rest:
        raise DamagedRecord(f"changelog: a belief has {len(rest)} bytes too many")
    numbers = np.frombuffer(state, "<f8", offset=_BELIEF.size)
    if len(numbers) != sum(lengths):
        raise DamagedRecord(f"changelog: a belief has {len(numbers)} numbers instead of {sum(lengths)}")
    # copies, because a belief may be changed
    weights, means, covariances, held, noise, error = np.split(numbers.copy(), np.cumsum(lengths[:-1]))
    if symmetric:
        covariances = covariances.reshape(count, -1).take(_triangles(size)[2], axis=1)
    control = ControlReading(held, noise.reshape(inputs, inputs)) if inputs else None
    means, covariances = means.reshape(count, size), covariances.reshape(count, size, size)
    return Belief(
        time, weights, means, covariances, control, AccumulatedError(*error.tolist()), hidden, modes
    )


def _encoded(hidden: Hidden) -> bytes:
    """The errors of hidden coordinates as bytes; none if there are none."""
    if not hidden.errors:
        return b""
    parts = [_COUNT.pack(len(hidden.errors))]
    for (name, deviation, correlation_time), seen in zip(*hidden, strict=True):
        raw = name.encode()
        parts += (_HIDDEN.pack(deviation, correlation_time, seen, len(raw)), raw)
    return b"".join(parts)


def _decoded(raw: bytes) -> Hidden:
    """The hidden coordinates that `_encoded` wrote; raises DamagedRecord."""
    errors, times, place = [], [], _COUNT.size
    (count,) = _COUNT.unpack_from(raw)
    for _ in range(count):
        deviation, correlation_time, seen, length = _HIDDEN.unpack_from(raw, place)
        start, place = place + _HIDDEN.size, place + _HIDDEN.size + length
        errors.append(PersistentError(raw[start:place].decode(), deviation, correlation_time))
        times.append(seen)
    if place != len(raw):
        raise DamagedRecord(f"changelog: hidden coordinates end at {place} of {len(raw)} bytes")
    return Hidden(tuple(errors), tuple(times))
