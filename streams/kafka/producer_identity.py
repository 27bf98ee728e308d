"""The request InitProducerId with an expected identity, which aiokafka 0.14 does not have.

aiokafka has only version 0 of this request, for its own transactions. Version 3 (Kafka 2.5) also takes the identity and
epoch that the caller has, and refuses if they are no longer current. The embedded broker answers no version 0.
Fixed upstream when `aiokafka.protocol.transaction.InitProducerIdRequest` has version 3.
"""

from __future__ import annotations

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import NodeNotReadyError, NoError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactString, Int16, Int32, Int64, Schema, TaggedFields

__all__ = ["init_producer_id", "new_producer_id"]

TRANSACTION_TIMEOUT_MS = 60_000  # required by the protocol; we begin no transactions
ANY = (-1, -1)


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
