"""The stored record of an entity: its belief, its recent past and the offsets already applied.

The record is the value in the table and its changelog. The offsets make application idempotent. After a crash the
broker delivers unacknowledged messages again, and the worker skips those that the belief already contains.
`inference.tracking.timeline` needs the past to apply late messages. The past stays encoded until then.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from beliefstream.inference.tracking.events import Belief
from beliefstream.inference.tracking.timeline import Moment, Timeline
from beliefstream.streams.state.codec import (
    StoredBelief,
    UnknownVersion,
    belief_from_array,
    checked_end,
    decode_belief,
    encode_belief,
    encode_beliefs,
    encoded_size,
    has_error,
    join_names,
    reports_damage,
    split_names,
)
from beliefstream.streams.state.stored_messages import StoredMessage, pack, unpack

__all__ = [
    "INTERNAL",
    "MOST_RESET_IDS",
    "RESET_VERSION",
    "UNRESET_VERSION",
    "VERSION",
    "BeliefRecord",
    "StoredMessage",
    "encode_states",
    "pack",
    "read_times",
    "unpack",
]

INTERNAL = b"\0"
"""The first byte of internal changelog keys, which are not beliefs; no entity has such a key."""
VERSION = 5
# a record that needs no newer feature is written in a version that older programs can read
RESET_VERSION = 4  # for entities whose beliefs have no accumulated error
UNRESET_VERSION = 3  # for those that have never been reset either
MOST_RESET_IDS = 16  # ids stored so that a reset is applied once, even if it is sent again
# version, has a base; sequence, revision, prior sequence, two offsets, time of the newest posterior and of the base,
# when last seen, length of names, number of moments
_HEADER = struct.Struct("<BBQIIqqdddHI")
_RESETS = struct.Struct("<IqH")  # since version 4, after the names: resets, offset, length of their ids
_SECOND_HEADER = struct.Struct("<BBQIIqqddHI")  # version 2, without the time last seen
_FIRST_HEADER = struct.Struct("<BBBHQIIqqdH")  # version 1, without that and without a past
_MOMENT = struct.Struct("<dII")  # time, length of its messages, length of its belief
_WAITING = struct.Struct("<qI")


@reports_damage
def read_times(raw: bytes) -> tuple[float, float]:
    """Read the time of the newest posterior and when the entity was last seen, without decoding the rest."""
    if not UNRESET_VERSION <= raw[0] <= VERSION:
        record = BeliefRecord.decode(raw)
        return record.last_emitted, record.last_seen
    header = _HEADER.unpack_from(raw)
    return header[7], header[9]


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
        """Encode the record as bytes, without loss; `encode_states` before it saves time for later."""
        names, past = join_names(self.coordinates), self.past
        base, version = encode_belief(past.base), self._version()
        header = _HEADER.pack(
            version,
            past.base is not None,
            self.sequence,
            self.revision,
            self.prior_sequence,
            self.observation_offset,
            self.prior_offset,
            self.last_emitted,
            past.base_time,
            self.last_seen,
            len(names),
            len(past.moments),
        )
        resets = self._encoded_resets() if version > UNRESET_VERSION else b""
        parts = [header, names, resets, base]
        for moment in past.moments:
            content, state = moment.content, moment.state
            if not isinstance(state, bytes):
                state = encode_belief(state)
            parts += (_MOMENT.pack(moment.time, len(content), len(state)), content, state)
        for offset, value in self.pending:
            parts.append(_WAITING.pack(offset, len(value)) + value)
        return b"".join(parts)

    def _version(self) -> int:
        """The oldest version that can represent the whole record."""
        past = self.past
        # nearly always the newest one has an error
        if has_error(past.state) or any(
            has_error(state) for state in (past.base, *[moment.state for moment in past.moments])
        ):
            return VERSION
        return RESET_VERSION if self.resets else UNRESET_VERSION

    def _encoded_resets(self) -> bytes:
        ids = "\n".join(self.reset_ids).encode()
        return _RESETS.pack(self.resets, self.forgotten_before, len(ids)) + ids

    @classmethod
    @reports_damage
    def decode(cls, raw: bytes) -> BeliefRecord:
        """Decode bytes of this version or an earlier one.

        Raises:
            UnknownVersion: the bytes are of another version.
            DamagedRecord: the bytes are truncated, or no record; decoding a part later may raise it too.
        """
        if raw[0] == 1:
            return _decode_first(raw)
        if not 2 <= raw[0] <= VERSION:
            raise UnknownVersion(f"changelog: record of version {raw[0]}, this program reads 1 to {VERSION}")
        if raw[0] == 2:
            *header, length, count = _SECOND_HEADER.unpack_from(raw)
            last_seen, place = -math.inf, _SECOND_HEADER.size
        else:
            *header, last_seen, length, count = _HEADER.unpack_from(raw)
            place = _HEADER.size
        _, has_base, sequence, revision, stated, observed, last_prior, last_emitted, base_time = header
        names = raw[place : place + length].decode()
        place += length
        resets: tuple[int, int, tuple[str, ...]] = (0, 0, ())
        if raw[0] > UNRESET_VERSION:
            resets, place = _decoded_resets(raw, place)
        base: StoredBelief | None = None
        if has_base:
            end = place + encoded_size(raw, place)
            base, place = raw[place:end], end
        moments: list[Moment[bytes, StoredBelief]] = []
        for _ in range(count):
            time, content, state = _MOMENT.unpack_from(raw, place)
            middle = place + _MOMENT.size + content
            packed = raw[place + _MOMENT.size : middle]
            place = checked_end(raw, middle + state)
            moments.append(Moment(time, packed, raw[middle:place] if state else None))
        return cls(
            Timeline(base, base_time, moments),
            split_names(names),
            sequence,
            revision,
            stated,
            observed,
            last_prior,
            _waiting(raw, place),
            last_emitted,
            last_seen,
            *resets,
        )


def encode_states(records: Iterable[BeliefRecord]) -> None:
    """Replace the beliefs of these records by their bytes, all together; each record remembers its newest one."""
    found: list[tuple[BeliefRecord, Moment[bytes, StoredBelief] | None, Belief]] = []
    for record in records:
        if isinstance(base := record.past.base, Belief):
            found.append((record, None, base))
        for moment in reversed(record.past.moments):
            if isinstance(moment.state, bytes):  # so are all before it
                break
            if moment.state is not None:
                found.append((record, moment, moment.state))
    for (record, after, belief), raw in zip(found, encode_beliefs([each[2] for each in found]), strict=True):
        if after is None:
            record.past.base = raw
        else:
            after.state = raw
        if raw is record.past.state:
            record._newest = raw, belief


def _decoded_resets(raw: bytes, place: int) -> tuple[tuple[int, int, tuple[str, ...]], int]:
    """Return the number of resets, the offset and the ids, and the position after them."""
    resets, before, length = _RESETS.unpack_from(raw, place)
    end = checked_end(raw, place + _RESETS.size + length)
    return (resets, before, split_names(raw[place + _RESETS.size : end].decode())), end


def _waiting(raw: bytes, place: int) -> list[tuple[int, bytes]]:
    pending = []
    checked_end(raw, place)
    while place < len(raw):
        offset, length = _WAITING.unpack_from(raw, place)
        place += _WAITING.size
        pending.append((offset, raw[place : checked_end(raw, place + length)]))
        place += length
    return pending


def _decode_first(raw: bytes) -> BeliefRecord:
    header = _FIRST_HEADER.unpack_from(raw)
    _, has_belief, count, size, sequence, revision, stated, observed, last_prior, time, length = header
    place = _FIRST_HEADER.size
    names = split_names(raw[place : place + length].decode())
    place += length
    past: Timeline[bytes, StoredBelief] = Timeline()
    if has_belief:
        total = count * (1 + size + size * size)
        past = Timeline(belief_from_array(time, count, size, np.frombuffer(raw, "<f8", total, place)), time)
        place += 8 * total
    last_emitted = time if has_belief else -math.inf
    pending = _waiting(raw, place)
    return BeliefRecord(past, names, sequence, revision, stated, observed, last_prior, pending, last_emitted)
