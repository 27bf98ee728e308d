"""Messages that could not be used, as records for the dead-letter topic."""

from __future__ import annotations

from schemas import DeadLetter, Reason
from streams.sending import Record


def dead_letter(
    topic: str,
    reason: Reason,
    detail: str,
    source: tuple[str, int, int],
    key: bytes | None,
    value: bytes | None,
) -> Record:
    """The original key and value; reason, detail and `source` (topic, partition, offset) in headers."""
    name, partition, offset = source
    letter = DeadLetter(reason=reason, detail=detail, topic=name, partition=partition, offset=offset)
    # a record needs a key or a value; an empty one stands for none at all
    content = value if key is not None or value is not None else b""
    return Record(topic, partition, key, content, letter.headers())
