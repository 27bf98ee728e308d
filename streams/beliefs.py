"""What is kept of an entity: its belief, and which messages are already in it.

A record's value in the table and its changelog. The offsets make application idempotent: after a crash the broker
delivers again what had not been acknowledged, and what a belief already holds is skipped.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from inference.filtering import Belief

VERSION = 1
# version, has a belief, components, dimension, sequence, revision, prior sequence, two offsets, time, length of names
_HEADER = struct.Struct("<BBHHQIIqqdH")


class UnknownVersion(ValueError):
    """A changelog record was written by another version of Beliefstream."""


@dataclass
class BeliefRecord:
    """One entity's record.

    Attributes:
        belief: None until the first observation.
        coordinates: names of the state, in order.
        sequence: number of posteriors emitted.
        prior_sequence: number of priors applied.
        observation_offset, prior_offset: the last message of each topic that was dealt with; -1 for none.
        pending: stated priors that no observation has reached in time, as (offset, the message's value).
    """

    belief: Belief | None = None
    coordinates: tuple[str, ...] = ()
    sequence: int = 0
    revision: int = 0
    prior_sequence: int = 0
    observation_offset: int = -1
    prior_offset: int = -1
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def encode(self) -> bytes:
        """To bytes, exactly."""
        names = "\n".join(self.coordinates).encode()
        count, size = self.belief.means.shape if self.belief is not None else (0, 0)
        header = _HEADER.pack(
            VERSION,
            self.belief is not None,
            count,
            size,
            self.sequence,
            self.revision,
            self.prior_sequence,
            self.observation_offset,
            self.prior_offset,
            self.belief.time if self.belief is not None else 0.0,
            len(names),
        )
        parts = [header, names]
        if self.belief is not None:
            arrays = (self.belief.weights, self.belief.means, self.belief.covariances)
            parts.extend(np.ascontiguousarray(array, dtype="<f8").tobytes() for array in arrays)
        for offset, value in self.pending:
            parts.append(struct.pack("<qI", offset, len(value)) + value)
        return b"".join(parts)

    @classmethod
    def decode(cls, raw: bytes) -> BeliefRecord:
        """From bytes.

        Raises:
            UnknownVersion: they are of another version.
        """
        if raw[0] != VERSION:
            raise UnknownVersion(f"changelog: record of version {raw[0]}, this program reads {VERSION}")
        header = _HEADER.unpack_from(raw)
        _, has_belief, count, size, sequence, revision, prior_sequence, observed, stated, time, length = (
            header
        )
        place = _HEADER.size
        names = raw[place : place + length].decode()
        place += length
        belief = None
        if has_belief:
            total = count * (1 + size + size * size)
            numbers = np.frombuffer(raw, "<f8", total, place).copy()
            place += 8 * total
            weights, means, covariances = np.split(numbers, (count, count + count * size))
            belief = Belief(time, weights, means.reshape(count, size), covariances.reshape(count, size, size))
        pending = []
        while place < len(raw):
            offset, length = struct.unpack_from("<qI", raw, place)
            place += 12
            pending.append((offset, raw[place : place + length]))
            place += length
        return cls(
            belief,
            tuple(names.split("\n")) if names else (),
            sequence,
            revision,
            prior_sequence,
            observed,
            stated,
            pending,
        )
