"""What is kept of an entity: its belief, its recent past, and which messages are already in it.

A record's value in the table and its changelog. The offsets make application idempotent: after a crash the broker
delivers again what had not been acknowledged, and what a belief already holds is skipped. The past is what
`inference.timeline` needs to take in what comes late; it stays as bytes until then.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from inference.events import Belief
from inference.readings import ControlReading
from inference.timeline import Moment, Timeline

INTERNAL = b"\0"
"""First byte of the keys of what is no belief in the changelog; no entity is called so."""
VERSION = 3
# version, has a base; sequence, revision, prior sequence, two offsets, time of the newest posterior and of the base,
# when it was last heard of, length of names, moments
_HEADER = struct.Struct("<BBQIIqqdddHI")
_SECOND_HEADER = struct.Struct("<BBQIIqqddHI")  # of version 2, which did not say when it was heard of
_FIRST_HEADER = struct.Struct("<BBBHQIIqqdH")  # of version 1, which kept no past either
_MOMENT = struct.Struct("<dII")  # time, length of its messages and of its belief
_MESSAGE = struct.Struct("<BqI")
# components, dimension, whether covariances are triangles, inputs under control, time
_BELIEF = struct.Struct("<BBBBd")
_WAITING = struct.Struct("<qI")

P = ParamSpec("P")
R = TypeVar("R")

State = bytes | Belief
"""A belief as it is stored, or one not stored yet."""


class UnknownVersion(ValueError):
    """A changelog record was written by another version of Beliefstream."""


class DamagedRecord(ValueError):
    """A changelog record is not what `encode` makes."""


def _told(read: Callable[P, R]) -> Callable[P, R]:
    """The function, whose complaints about bytes come out as DamagedRecord."""

    @functools.wraps(read)
    def reading(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return read(*arguments, **options)
        except (UnknownVersion, DamagedRecord):
            raise
        except (struct.error, IndexError, ValueError) as error:
            raise DamagedRecord(f"changelog: a record cannot be read: {error}") from error

    return reading


def _reaches(raw: bytes, place: int) -> int:
    if place > len(raw):
        raise DamagedRecord(f"changelog: a record of {len(raw)} bytes ends early, {place} are needed")
    return place


@_told
def glance(raw: bytes) -> tuple[float, float]:
    """The time of the newest posterior and when it was last heard of, without reading all of a record."""
    if raw[0] != VERSION:
        record = BeliefRecord.decode(raw)
        return record.shown, record.heard
    header = _HEADER.unpack_from(raw)
    return header[7], header[9]


def check_version(raw: bytes, topic: str, partition: int, key: bytes) -> None:
    """Raises UnknownVersion, with all that helps to find the record, if this program cannot read it."""
    version = raw[0] if raw else 0
    if not 1 <= version <= VERSION:
        place = f"topic {topic}, partition {partition}, key {key.decode(errors='replace')!r}"
        raise UnknownVersion(
            f"changelog: {place}: a record of version {version}, this program reads 1 to {VERSION}. Start the version "
            "of Beliefstream that wrote it, or begin anew under another BELIEFSTREAM_APPLICATION."
        )


class Kept(NamedTuple):
    """A message that is in the belief, and may have to be applied again."""

    is_prior: bool
    offset: int
    value: bytes


def pack(messages: Iterable[Kept]) -> bytes:
    """The messages of one moment as bytes."""
    return b"".join(
        _MESSAGE.pack(message.is_prior, message.offset, len(message.value)) + message.value
        for message in messages
    )


@_told
def unpack(raw: bytes) -> list[Kept]:
    """What `pack` has packed; raises DamagedRecord for anything else."""
    found, place = [], 0
    while place < len(raw):
        kind, offset, length = _MESSAGE.unpack_from(raw, place)
        place += _MESSAGE.size
        found.append(Kept(bool(kind), offset, raw[place : _reaches(raw, place + length)]))
        place += length
    return found


@dataclass
class BeliefRecord:
    """One entity's record.

    Attributes:
        past: moments with their messages, packed; the newest one's state is the belief.
        coordinates: names of the state, in order.
        sequence: number of messages applied.
        revision: how often the past was changed after its posterior had been emitted.
        prior_sequence: number of priors applied.
        observation_offset, prior_offset: the last message of each topic that was dealt with; -1 for none.
        pending: stated priors that no observation has reached in time, as (offset, the message's value).
        shown: time of the newest posterior emitted.
        heard: what time it was in its partition when a message of it last came, by the others' event times.
    """

    past: Timeline[bytes, State] = field(default_factory=Timeline)
    coordinates: tuple[str, ...] = ()
    sequence: int = 0
    revision: int = 0
    prior_sequence: int = 0
    observation_offset: int = -1
    prior_offset: int = -1
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    shown: float = -math.inf
    heard: float = -math.inf

    @classmethod
    def of(cls, belief: Belief, coordinates: tuple[str, ...], **others: Any) -> BeliefRecord:
        """With a belief that has no past."""
        return cls(Timeline(belief, belief.time), coordinates, shown=belief.time, **others)

    @property
    def has_belief(self) -> bool:
        """Whether anything has been applied."""
        return self.past.base is not None or bool(self.past.moments)

    @property
    def belief(self) -> Belief | None:
        """The newest; None until the first observation."""
        moments = self.past.moments
        return belief_of(moments[-1].state if moments else self.past.base)

    def forget(self) -> None:
        """Give up the belief and its past."""
        self.past, self.shown = Timeline(), -math.inf

    def encode(self) -> bytes:
        """To bytes, exactly."""
        names, past = "\n".join(self.coordinates).encode(), self.past
        base = _stored(past.base)
        header = _HEADER.pack(
            VERSION,
            past.base is not None,
            self.sequence,
            self.revision,
            self.prior_sequence,
            self.observation_offset,
            self.prior_offset,
            self.shown,
            past.base_time,
            self.heard,
            len(names),
            len(past.moments),
        )
        parts = [header, names, base]
        for moment in past.moments:
            state = _stored(moment.state)
            parts.extend((_MOMENT.pack(moment.time, len(moment.content), len(state)), moment.content, state))
        for offset, value in self.pending:
            parts.append(_WAITING.pack(offset, len(value)) + value)
        return b"".join(parts)

    @classmethod
    @_told
    def decode(cls, raw: bytes) -> BeliefRecord:
        """From bytes, of this version or one before it.

        Raises:
            UnknownVersion: they are of another version.
            DamagedRecord: they are cut off, or no record at all; what is read later may raise it too.
        """
        if raw[0] == 1:
            return _decode_first(raw)
        if not 2 <= raw[0] <= VERSION:
            raise UnknownVersion(f"changelog: record of version {raw[0]}, this program reads 1 to {VERSION}")
        if raw[0] == 2:
            *header, length, count = _SECOND_HEADER.unpack_from(raw)
            heard, place = -math.inf, _SECOND_HEADER.size
        else:
            *header, heard, length, count = _HEADER.unpack_from(raw)
            place = _HEADER.size
        _, has_base, sequence, revision, stated, observed, last_prior, shown, base_time = header
        names = raw[place : place + length].decode()
        place += length
        base: State | None = None
        if has_base:
            end = place + _belief_size(raw, place)
            base, place = raw[place:end], end
        moments: list[Moment[bytes, State]] = []
        for _ in range(count):
            time, content, state = _MOMENT.unpack_from(raw, place)
            middle = place + _MOMENT.size + content
            packed = raw[place + _MOMENT.size : middle]
            place = _reaches(raw, middle + state)
            moments.append(Moment(time, packed, raw[middle:place] if state else None))
        return cls(
            Timeline(base, base_time, moments),
            _names(names),
            sequence,
            revision,
            stated,
            observed,
            last_prior,
            _waiting(raw, place),
            shown,
            heard,
        )


def _names(joined: str) -> tuple[str, ...]:
    return tuple(joined.split("\n")) if joined else ()


def _waiting(raw: bytes, place: int) -> list[tuple[int, bytes]]:
    pending = []
    _reaches(raw, place)
    while place < len(raw):
        offset, length = _WAITING.unpack_from(raw, place)
        place += _WAITING.size
        pending.append((offset, raw[place : _reaches(raw, place + length)]))
        place += length
    return pending


def _decode_first(raw: bytes) -> BeliefRecord:
    header = _FIRST_HEADER.unpack_from(raw)
    _, has_belief, count, size, sequence, revision, stated, observed, last_prior, time, length = header
    place = _FIRST_HEADER.size
    names = _names(raw[place : place + length].decode())
    place += length
    past: Timeline[bytes, State] = Timeline()
    if has_belief:
        total = count * (1 + size + size * size)
        past = Timeline(_belief(time, count, size, np.frombuffer(raw, "<f8", total, place)), time)
        place += 8 * total
    shown = time if has_belief else -math.inf
    pending = _waiting(raw, place)
    return BeliefRecord(past, names, sequence, revision, stated, observed, last_prior, pending, shown)


def _belief(time: float, count: int, size: int, numbers: NDArray[np.float64]) -> Belief:
    weights, means, covariances = np.split(numbers.copy(), (count, count + count * size))
    return Belief(time, weights, means.reshape(count, size), covariances.reshape(count, size, size))


@functools.cache
def _triangles(size: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Places of the lower and the upper triangle in a flat matrix, and of the matrix in the lower triangle."""
    rows, columns = np.tril_indices(size)
    where = np.zeros((size, size), dtype=np.intp)
    where[rows, columns] = where[columns, rows] = np.arange(len(rows))
    return rows * size + columns, columns * size + rows, where.ravel()


def _stored(state: State | None) -> bytes:
    """A belief as bytes, exactly; nothing for none."""
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
    inputs = 0
    if state.control is not None:
        inputs = len(state.control.value)
        parts = (*parts, state.control.value, state.control.covariance)
    header = _BELIEF.pack(count, size, symmetric, inputs, state.time)
    return header + b"".join(np.ascontiguousarray(part, dtype="<f8").tobytes() for part in parts)


def _belief_size(raw: bytes, place: int) -> int:
    count, size, symmetric, inputs, _ = _BELIEF.unpack_from(raw, place)
    return int(_BELIEF.size + 8 * (_numbers(count, size, symmetric) + inputs * (inputs + 1)))


def _numbers(count: int, size: int, symmetric: bool) -> int:
    return count * (1 + size + (size * (size + 1) // 2 if symmetric else size * size))


@_told
def belief_of(state: State | None) -> Belief | None:
    """The belief that is stored, if there is one; raises DamagedRecord."""
    if not isinstance(state, bytes):
        return state
    count, size, symmetric, inputs, time = _BELIEF.unpack_from(state)
    numbers = np.frombuffer(state, "<f8", offset=_BELIEF.size)
    control = None
    if inputs:
        numbers, held = np.split(numbers, [_numbers(count, size, symmetric)])
        control = ControlReading(held[:inputs].copy(), held[inputs:].reshape(inputs, inputs).copy())
    if not symmetric:
        return replace(_belief(time, count, size, numbers), control=control)
    weights, means, half = np.split(numbers, (count, count + count * size))
    covariances = half.reshape(count, -1).take(_triangles(size)[2], axis=1)
    shape = (count, size, size)
    return Belief(
        time, weights.copy(), means.reshape(count, size).copy(), covariances.reshape(shape), control
    )
