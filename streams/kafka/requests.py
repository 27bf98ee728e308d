"""Requests to brokers that aiokafka 0.14 does not have.

**Metadata** with topic ids. aiokafka has this request up to version 5, and topic ids came with version 10. Version 12
is that of Kafka 3.1 (https://kafka.apache.org/protocol#The_Messages_Metadata). Fixed upstream when
`aiokafka.protocol.metadata.MetadataRequest` has version 12.

**InitProducerId** with an expected identity. aiokafka has only version 0 of this request, for its own transactions.
Version 3 (Kafka 2.5) also takes the identity and epoch that the caller has, and refuses if they are no longer current.
The embedded broker answers no version 0. Fixed upstream when `aiokafka.protocol.transaction.InitProducerIdRequest` has
version 3.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from io import BytesIO
from uuid import UUID

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import NodeNotReadyError, NoError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    TaggedFields,
)

NO_ID = UUID(int=0)
TRANSACTION_TIMEOUT_MS = 60_000  # required by the protocol; we begin no transactions
ANY = (-1, -1)

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


class _InitProducerIdResponse(Response):  # type: ignore[misc]
    API_KEY = 22
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class _InitProducerIdV3(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 22
    API_VERSION = 3
    RESPONSE_TYPE = _InitProducerIdResponse
    SCHEMA = Schema(
        ("transactional_id", CompactString("utf-8")),
        ("transaction_timeout_ms", Int32),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class _InitProducerId(Request[_InitProducerIdV3]):  # type: ignore[misc]
    """Version 3, with an expected identity and epoch; -1 for any."""

    API_KEY = 22

    def __init__(self, identity: str | None, producer: int, epoch: int) -> None:
        self._asked = (identity, TRANSACTION_TIMEOUT_MS, producer, epoch)

    def build(self, request_struct_class: type[_InitProducerIdV3]) -> _InitProducerIdV3:
        return request_struct_class(*self._asked, {})


async def init_producer_id(
    client: AIOKafkaClient, identity: str, expected: tuple[int, int] = ANY
) -> tuple[int, int]:
    """Return the producer id of a transactional id, with its next epoch.

    Args:
        expected: the producer id and epoch that the caller has.

    Raises:
        aiokafka.errors.KafkaError: the coordinator refuses; ProducerFenced or InvalidProducerEpoch if `expected` is no
            longer current.
    """
    node = await client.coordinator_lookup(CoordinationType.TRANSACTION, identity)
    request = _InitProducerId(identity, *expected)
    answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
    return _granted(answer, f"the producer identity {identity!r}")


async def new_producer_id(client: AIOKafkaClient) -> tuple[int, int]:
    """Return a producer id that nobody else has, with its epoch, for batches that the broker stores once.

    Raises:
        aiokafka.errors.KafkaError: no broker answers, or it refuses.
    """
    node = client.get_random_node()
    if node is None:
        raise NodeNotReadyError("no broker is known")
    return _granted(await client.send(node, _InitProducerId(None, *ANY)), "a producer id")


def _granted(answer: _InitProducerIdResponse, what: str) -> tuple[int, int]:
    error = for_code(answer.error_code)
    if error is not NoError:
        raise error(what)
    return answer.producer_id, answer.producer_epoch
