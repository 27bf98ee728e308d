"""Dead letters: the original bytes of unusable messages, with the reason and the source in headers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError

from beliefstream.schemas.base import Message, printable, unusable
from beliefstream.schemas.reasons import Reason, reason_of

__all__ = ["DeadLetter", "Reason", "reason_of"]

HEADERS = {
    "reason": "beliefstream_reason",
    "detail": "beliefstream_detail",
    "topic": "beliefstream_source_topic",
    "partition": "beliefstream_source_partition",
    "offset": "beliefstream_source_offset",
    "replay_of": "beliefstream_replay_of",
}
"""Name of each field's header."""
OPTIONAL_HEADERS = (HEADERS["replay_of"],)
"""Fields whose header may be absent."""

_FIELDS = {header: field for field, header in HEADERS.items()}
_LONGEST_DETAIL = 1000  # characters; a person reads the header
_LONGEST_PLACE = 300  # characters of topic/partition:offset


class DeadLetter(Message):
    """A message that could not be used. Key and value are the original bytes; all other fields are headers."""

    reason: Annotated[Reason, Field(description="reason, from a closed list; header beliefstream_reason")]
    detail: Annotated[
        str,
        AfterValidator(printable),
        Field(description="explanation in one line; header beliefstream_detail"),
    ]
    topic: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9._-]{1,249}$",
            description="topic of the original message; header beliefstream_source_topic",
        ),
    ]
    partition: Annotated[
        int, Field(ge=0, description="partition of that topic; header beliefstream_source_partition; no unit")
    ]
    offset: Annotated[
        int, Field(ge=0, description="offset in that partition; header beliefstream_source_offset; no unit")
    ]
    replay_of: Annotated[
        Annotated[str, AfterValidator(printable)] | None,
        Field(
            description="earlier dead letter of the same message, as topic/partition:offset, if the message was sent "
            "again from it; header beliefstream_replay_of"
        ),
    ] = None
    key: Annotated[bytes | None, Field(description="the original key, byte for byte")] = None
    value: Annotated[bytes | None, Field(description="the original value, byte for byte")] = None

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
        try:
            return cls.model_validate({**fields, "key": key, "value": value})
        except ValidationError as error:
            raise unusable(error) from error


def replay_of(headers: Iterable[tuple[str, bytes | None]] | None) -> str | None:
    """Return the dead letter that this message replays, as topic/partition:offset; None for other messages.

    Any producer may set the header, so its value is escaped and truncated.
    """
    for name, content in headers or ():
        if name == HEADERS["replay_of"]:
            return printable((content or b"")[:_LONGEST_PLACE].decode(errors="replace"))
    return None
