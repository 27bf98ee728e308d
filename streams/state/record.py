"""The stored record of an entity: its belief, its recent past and the offsets already applied.

The record is the value in the table and its changelog. The offsets make application idempotent. After a crash the
broker delivers unacknowledged messages again, and the worker skips those that the belief already contains.
`inference.tracking.timeline` needs the past to apply late messages. The past stays encoded until then.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from beliefstream.inference.tracking.events import Belief
from beliefstream.inference.tracking.timeline import Moment, Timeline
from beliefstream.streams.state.codec import (
    DamagedRecord,
    StoredBelief,
    UnknownVersion,
    decode_belief,
    encode_beliefs,
    reports_damage,
)

INTERNAL = b"\0"
"""The first byte of internal changelog keys, which are not beliefs; no entity has such a key."""
VERSION = 7
"""The version of the format, the first byte of a record; a worker reads no other."""
MOST_RESET_IDS = 16  # ids stored so that a reset is applied once, even if it is sent again
# version; sequence, revision, prior sequence, two offsets; times of the newest posterior, of the base and last seen;
# number of resets, offset before which observations are forgotten; lengths of names, ids of resets and base; number of
# moments
_HEADER = struct.Struct("<BQIIqqdddIqHHII")
_MOMENT = struct.Struct("<dIIB")  # time, length of its messages, length of its belief, number
_MESSAGE = struct.Struct("<?qI")  # whether it is a prior, offset, length
_WAITING = struct.Struct("<qI")  # offset, length
# a decoded record takes 5 kB with one moment, 15 with twenty, and 50 with all 256, about as much as its bytes
MOST_CACHED, MOST_CACHED_BYTES = 16_384, 2**28


class StoredMessage(msgspec.Struct, frozen=True):
    """A message that the belief contains, and that may have to be applied again."""

    is_prior: bool
    offset: int
    value: bytes


def pack(messages: Iterable[StoredMessage]) -> bytes:
    """Pack the messages of one moment into bytes."""
    return b"".join(
        [_MESSAGE.pack(each.is_prior, each.offset, len(each.value)) + each.value for each in messages]
    )


@reports_damage
def unpack(raw: bytes) -> list[StoredMessage]:
    """Unpack the bytes of `pack`; raises DamagedRecord for anything else."""
    messages, place = [], 0
    while place < len(raw):
        is_prior, offset, length = _MESSAGE.unpack_from(raw, place)
        start, place = place + _MESSAGE.size, _checked_end(raw, place + _MESSAGE.size + length)
        messages.append(StoredMessage(is_prior, offset, raw[start:place]))
    return messages


@reports_damage
def read_times(raw: bytes) -> tuple[float, float]:
    """Read the time of the newest posterior and when the entity was last seen, without decoding the rest."""
    check_version(raw)
    header = _HEADER.unpack_from(raw)
    return header[6], header[8]


def check_version(raw: bytes) -> None:
    """Raise UnknownVersion if the bytes are a record of another version, DamagedRecord if there are none."""
    if not raw:
        raise DamagedRecord("changelog: a record is empty")
    if raw[0] != VERSION:
        raise UnknownVersion(f"a record of version {raw[0]}, this program reads version {VERSION}")


@dataclass
class BeliefRecord:
    """One entity's record.

    Attributes:
        past: moments with their messages, packed; the newest one's state is the belief.
        coordinates: names of the state, in order.
        sequence: number of messages applied.
        revision: how often the past of an emitted posterior was changed.
        prior_sequence: number of priors applied.
        observation_offset, prior_offset: offset of the last processed message of each topic; -1 for none.
        pending: stated priors later than all observations, as (offset, the message's value).
        last_emitted: time of the newest posterior emitted.
        last_seen: the partition's event time, by its other messages, when the entity's last message arrived.
        resets: how often the entity was reset.
        forgotten_before: a reset forgot observations before this offset, including those not read yet.
        reset_ids: ids of the last resets that had one.
    """

    past: Timeline[bytes, StoredBelief] = field(default_factory=Timeline)
    coordinates: tuple[str, ...] = ()
    sequence: int = 0
    revision: int = 0
    prior_sequence: int = 0
    observation_offset: int = -1
    prior_offset: int = -1
    pending: list[tuple[int, bytes]] = field(default_factory=list)
    last_emitted: float = -math.inf
    last_seen: float = -math.inf
    resets: int = 0
    forgotten_before: int = 0
    reset_ids: tuple[str, ...] = ()
    _newest: tuple[StoredBelief, Belief] | None = field(default=None, init=False, compare=False, repr=False)

    @classmethod
    def of(cls, belief: Belief, coordinates: tuple[str, ...], **others: Any) -> BeliefRecord:
        """Create a record with a belief that has no past."""
        return cls(Timeline(belief, belief.time), coordinates, last_emitted=belief.time, **others)

    @property
    def has_belief(self) -> bool:
        """Whether anything has been applied."""
        return self.past.base is not None or bool(self.past.moments)

    @property
    def belief(self) -> Belief | None:
        """The newest belief; None until the first observation."""
        return self.decoded(self.past.state)

    def decoded(self, state: StoredBelief | None) -> Belief | None:
        """Decode a state of the past; the newest one is decoded once, or not at all if this process encoded it."""
        if self._newest is None or state is not self._newest[0]:
            found = decode_belief(state)
            if state is None or found is None or state is not self.past.state:
                return found
            self._newest = state, found
        return self._newest[1]

    def forget(self) -> None:
        """Discard the belief and its past."""
        self.past, self.last_emitted = Timeline(), -math.inf

    def reset(self, id: str | None, before: int) -> None:
        """Forget the entity; the offsets stay, and the sequence continues.

        Args:
            id: of the reset, if it has one.
            before: observations before this offset are forgotten too.
        """
        self.forget()
        self.coordinates, self.pending = (), []
        self.sequence += 1
        self.resets += 1
        self.forgotten_before = max(self.forgotten_before, before)
        if id is not None:
            self.reset_ids = (*self.reset_ids, id)[-MOST_RESET_IDS:]

    def encode(self) -> bytes:
        """Encode the record as bytes, without loss; `encode_states` of many records before it saves time."""
        encode_states((self,))
        past, names, ids = self.past, _joined(self.coordinates), _joined(self.reset_ids)
        base = _bytes_of(past.base)
        header = _HEADER.pack(
            VERSION,
            self.sequence,
            self.revision,
            self.prior_sequence,
            self.observation_offset,
            self.prior_offset,
            self.last_emitted,
            past.base_time,
            self.last_seen,
            self.resets,
            self.forgotten_before,
            len(names),
            len(ids),
            len(base),
            len(past.moments),
        )
        parts = [header, names, ids, base]
        for moment in past.moments:
            content, state = moment.content, _bytes_of(moment.state)
            parts += (_MOMENT.pack(moment.time, len(content), len(state), moment.number), content, state)
        for offset, value in self.pending:
            parts += (_WAITING.pack(offset, len(value)), value)
        return b"".join(parts)

    @classmethod
    @reports_damage
    def decode(cls, raw: bytes) -> BeliefRecord:
        """Decode the bytes of `encode`.

        Raises:
            UnknownVersion: the bytes are of another version.
            DamagedRecord: the bytes are truncated, or no record; decoding a part later may raise it too.
        """
        check_version(raw)
        header = _HEADER.unpack_from(raw)
        _, sequence, revision, prior_sequence, observed, stated, last_emitted, base_time, last_seen, *rest = (
            header
        )
        resets, forgotten_before, names, ids, base, count = rest
        place = _HEADER.size

        def take(length: int) -> bytes:
            nonlocal place
            start, place = place, _checked_end(raw, place + length)
            return raw[start:place]

        coordinates, reset_ids = _split(take(names).decode()), _split(take(ids).decode())
        past: Timeline[bytes, StoredBelief] = Timeline(take(base) or None, base_time)
        for _ in range(count):
            time, content, state, number = _MOMENT.unpack(take(_MOMENT.size))
            past.moments.append(Moment(time, take(content), take(state) or None, number))
        pending = []
        while place < len(raw):
            offset, length = _WAITING.unpack(take(_WAITING.size))
            pending.append((offset, take(length)))
        return cls(
            past,
            coordinates,
            sequence,
            revision,
            prior_sequence,
            observed,
            stated,
            pending,
            last_emitted,
            last_seen,
            resets,
            forgotten_before,
            reset_ids,
        )


def encode_states(records: Iterable[BeliefRecord]) -> None:
    """Replace the beliefs of these records by their bytes, all together; each record remembers its newest one."""
    new: list[tuple[BeliefRecord, Moment[bytes, StoredBelief] | None, Belief]] = []
    for record in records:
        if isinstance(base := record.past.base, Belief):
            new.append((record, None, base))
        for moment in reversed(record.past.moments):
            if isinstance(moment.state, bytes):  # so are all before it
                break
            if moment.state is not None:
                new.append((record, moment, moment.state))
    for (record, after, belief), raw in zip(new, encode_beliefs([each[2] for each in new]), strict=True):
        if after is None:
            record.past.base = raw
        else:
            after.state = raw
        if raw is record.past.state:
            record._newest = raw, belief


def _bytes_of(state: StoredBelief | None) -> bytes:
    assert not isinstance(state, Belief), "encode_states has encoded it"
    return state or b""


def _checked_end(raw: bytes, place: int) -> int:
    """Return `place` if the bytes are long enough; raises DamagedRecord."""
    if place > len(raw):
        raise DamagedRecord(f"changelog: a record ends early: it has {len(raw)} bytes and needs {place}")
    return place


@functools.lru_cache(1024)
def _joined(names: tuple[str, ...]) -> bytes:
    return "\n".join(names).encode()


@functools.lru_cache(1024)
def _split(joined: str) -> tuple[str, ...]:
    """Return the names of `_joined`; the same object for the same names."""
    return tuple(joined.split("\n")) if joined else ()


class RecordCache:
    """Keeps the decoded records of up to `most` entities, and fewer if they have more than `most_bytes` together.

    A batch takes a record out, changes it, and puts it back when its bytes are stored. So a batch that fails leaves no
    changed record behind. A record counts only for the bytes with which it was put back: if the store has others, such
    as after a rebalance, these are decoded.
    """

    def __init__(self, most: int = MOST_CACHED, most_bytes: int = MOST_CACHED_BYTES) -> None:
        self._most, self._most_bytes, self._bytes = most, most_bytes, 0
        self._records: dict[tuple[int, bytes], tuple[bytes, BeliefRecord]] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._records)

    def take(self, partition: int, key: bytes, raw: bytes) -> BeliefRecord:
        """Return the record of these bytes, for the caller to change; raises as `BeliefRecord.decode`."""
        found = self._pop((partition, key))
        return found[1] if found is not None and found[0] == raw else BeliefRecord.decode(raw)

    def put(self, partition: int, key: bytes, raw: bytes, record: BeliefRecord) -> None:
        """Keep the record, which the caller no longer changes; `raw` is what `record.encode` gave."""
        self._pop((partition, key))
        self._records[partition, key] = raw, record
        self._bytes += len(raw)
        while len(self._records) > self._most or self._bytes > self._most_bytes:
            self._pop(next(iter(self._records)))

    def _pop(self, place: tuple[int, bytes]) -> tuple[bytes, BeliefRecord] | None:
        found = self._records.pop(place, None)
        self._bytes -= len(found[0]) if found is not None else 0
        return found
