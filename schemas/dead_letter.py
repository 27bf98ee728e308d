"""Messages of the topic of dead letters: unusable messages with their original bytes, and notes of those sent again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from beliefstream.schemas.base import Identifier, Message, Reason, printable, validated
from beliefstream.schemas.time import Time

HEADERS = {
    "reason": "beliefstream_reason",
    "detail": "beliefstream_detail",
    "topic": "beliefstream_source_topic",
    "partition": "beliefstream_source_partition",
    "offset": "beliefstream_source_offset",
    "replay_of": "beliefstream_replay_of",
    "mqtt_topic": "beliefstream_mqtt_topic",
}
"""Name of each field's header."""
OPTIONAL_HEADERS = (HEADERS["replay_of"], HEADERS["mqtt_topic"])
"""Fields whose header may be absent."""
_FIELDS = {header: field for field, header in HEADERS.items()}
_LONGEST_DETAIL = 1000  # characters; a person reads the header
_LONGEST_PLACE = 300  # characters of topic/partition:offset
MOST_LETTERS = 1000  # in one note


class DeadLetter(Message):
    """A message that could not be used. Key and value are the original bytes; all other fields are headers."""

    reason: Reason
    """reason, from a closed list; header beliefstream_reason"""
    detail: Annotated[str, AfterValidator(printable)]
    """explanation in one line; header beliefstream_detail"""
    topic: Annotated[str, Field(pattern="^[A-Za-z0-9._-]{1,249}$")]
    """topic of the original message; header beliefstream_source_topic"""
    partition: Annotated[int, Field(ge=0)]
    """partition of that topic; header beliefstream_source_partition; no unit"""
    offset: Annotated[int, Field(ge=0)]
    """offset in that partition; header beliefstream_source_offset; no unit"""
    replay_of: Annotated[str, AfterValidator(printable)] | None = None
    """earlier dead letter of the same message, as topic/partition:offset, if the message was sent again from it; header
    beliefstream_replay_of"""
    mqtt_topic: Annotated[str, AfterValidator(printable)] | None = None
    """the MQTT topic of a message that the bridge could not map; its source topic is mqtt, its offset the packet
    identifier; header beliefstream_mqtt_topic"""
    key: bytes | None = None
    """the original key, byte for byte"""
    value: bytes | None = None
    """the original value, byte for byte"""

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the headers of the record; its key and value are `key` and `value`."""
        texts = {
            "reason": self.reason.value,
            "detail": self.detail[:_LONGEST_DETAIL],
            "topic": self.topic,
            "partition": str(self.partition),
            "offset": str(self.offset),
        }
        if self.replay_of is not None:
            texts["replay_of"] = self.replay_of[:_LONGEST_PLACE]
        if self.mqtt_topic is not None:
            texts["mqtt_topic"] = self.mqtt_topic[:_LONGEST_DETAIL]
        return [(HEADERS[field], text.encode(errors="replace")) for field, text in texts.items()]

    @classmethod
    def from_record(
        cls, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes | None]] | None
    ) -> DeadLetter:
        """Read a dead letter from a record of the dead-letter topic.

        Raises:
            Unusable: the headers are not those of a dead letter.
        """
        fields = {
            _FIELDS[name]: (content or b"").decode(errors="replace")
            for name, content in headers or ()
            if name in _FIELDS
        }
        return validated(cls, {**fields, "key": key, "value": value})


def replay_of(headers: Iterable[tuple[str, bytes | None]] | None) -> str | None:
    """Return the dead letter that this message replays, as topic/partition:offset; None for other messages.

    Any producer may set the header, so its value is escaped and truncated.
    """
    for name, content in headers or ():
        if name == HEADERS["replay_of"]:
            return printable((content or b"")[:_LONGEST_PLACE].decode(errors="replace"))
    return None


_Texts = Annotated[
    tuple[Annotated[str, Field(strict=True, max_length=400)], ...],
    Field(fail_fast=True),
    Field(max_length=MOST_LETTERS),
]


class Replay(Message):
    """A note that dead letters are about to be sent again, or were sent.

    Each group of letters has two notes. A group with a note `begun` but none `sent` was interrupted: its letters may
    or may not have been sent.
    """

    id: Identifier
    """identifier of the group of letters, the same in both notes; no unit"""
    state: Literal["begun", "sent"]
    """begun: before the letters are sent; sent: after"""
    time: Time
    """time of the note: seconds since the epoch UTC"""
    letters: _Texts
    """the messages, each as topic/partition:offset#digest of its original record"""
    places: _Texts = ()
    """new record of each message, as topic/partition:offset, in the order of letters; only in sent"""
