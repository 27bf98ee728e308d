"""The request Metadata with topic ids, which aiokafka 0.14 does not have.

aiokafka has this request up to version 5, and topic ids came with version 10. Version 12 is that of Kafka 3.1
(https://kafka.apache.org/protocol#The_Messages_Metadata).
Fixed upstream when `aiokafka.protocol.metadata.MetadataRequest` has version 12.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from io import BytesIO
from uuid import UUID

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

__all__ = ["NO_ID", "MetadataRequest"]

NO_ID = UUID(int=0)
METADATA, VERSION = 3, 12


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class _Answer(Response):  # type: ignore[misc]
    API_KEY, API_VERSION = METADATA, VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )

    @classmethod
    def decode(cls, data: BytesIO | bytes) -> _Answer:
        """Decode an answer; the same bytes as before give the same object, and are not decoded again."""
        return _decoded(data if isinstance(data, bytes) else data.read())


@lru_cache(maxsize=8)
def _decoded(raw: bytes) -> _Answer:
    data = BytesIO(raw)
    return _Answer(*(field.decode(data) for field in _Answer.SCHEMA.fields))


class _Question(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY, API_VERSION = METADATA, VERSION
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class MetadataRequest(Request[_Question]):  # type: ignore[misc]
    """Asks for the metadata of these topics; each of the answer's `topics` begins with error code, name and id."""

    API_KEY = METADATA

    def __init__(self, names: Collection[str]) -> None:
        self._names = names

    def build(self, request_struct_class: type[_Question]) -> _Question:
        return request_struct_class([(NO_ID, name, {}) for name in self._names], False, False, {})
