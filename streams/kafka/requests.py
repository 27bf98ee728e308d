"""Requests to brokers that aiokafka 0.14 does not have, and kafka-python has.

**Metadata** with topic ids. aiokafka has this request up to version 5, and topic ids came with version 10. Version 12
is that of Kafka 3.1 (https://kafka.apache.org/protocol#The_Messages_Metadata). Fixed upstream when
`aiokafka.protocol.metadata.MetadataRequest` has version 12.

**InitProducerId** with an expected identity. aiokafka has only version 0 of this request, for its own transactions.
Version 3 (Kafka 2.5) also takes the identity and epoch that the caller has, and refuses if they are no longer current.
The embedded broker answers no version 0. Fixed upstream when `aiokafka.protocol.transaction.InitProducerIdRequest` has
version 3.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.errors import IncompatibleBrokerVersion, NodeNotReadyError, NoError, for_code
from aiokafka.protocol.api import RequestHeader_v2, ResponseHeader_v1
from kafka.protocol.metadata import MetadataRequest, MetadataResponse
from kafka.protocol.producer import InitProducerIdRequest, InitProducerIdResponse

TRANSACTION_TIMEOUT_MS = 60_000  # required by the protocol; we begin no transactions
ANY = (-1, -1)


class _Request:
    """A message of kafka-python as a request that `AIOKafkaClient.send` takes, and its answer too."""

    def __init__(self, message: Any, answer: Any) -> None:
        self.API_KEY, self.API_VERSION = message.API_KEY, message.API_VERSION
        self.RESPONSE_TYPE = self
        self._message, self._answer = message, answer

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> _Request:
        """Return the request; raises NotImplementedError if the broker does not know this version of it."""
        if self.API_KEY not in versions:
            raise IncompatibleBrokerVersion(f"{self._message.name} is not known")
        least, most = versions[self.API_KEY]
        if not least <= self.API_VERSION <= most:
            raise NotImplementedError(f"{self._message.name} of version {self.API_VERSION}")
        return self

    def build_request_header(self, correlation_id: int, client_id: str) -> RequestHeader_v2:
        return RequestHeader_v2(self, correlation_id, client_id)

    def encode(self) -> bytes:
        return bytes(self._message.encode())

    def parse_response_header(self, data: BytesIO) -> ResponseHeader_v1:
        return ResponseHeader_v1.decode(data)

    def decode(self, data: BytesIO) -> Any:
        return _decoded(self._answer, data.read())


@lru_cache(maxsize=8)
def _decoded(answer: Any, raw: bytes) -> Any:
    """Decode an answer; a worker asks for its topics after every fetch, and nearly always hears the same."""
    return answer.decode(raw)


async def topics_of(client: AIOKafkaClient, node: Any, names: Collection[str]) -> Any:
    """Ask a broker for these topics, as kafka-python's `MetadataResponse` has them; an unknown one has no `topic_id`.

    Raises:
        aiokafka.errors.KafkaError: it does not answer.
        NotImplementedError: it is of a version before 3.1.
    """
    topics = [MetadataRequest.MetadataRequestTopic(name=name) for name in names]
    asked = MetadataRequest[12](
        topics=topics, allow_auto_topic_creation=False, include_topic_authorized_operations=False
    )
    return (await client.send(node, _Request(asked, MetadataResponse[12]))).topics


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
    return await _producer_id(client, node, ConnectionGroup.COORDINATION, identity, expected)


async def new_producer_id(client: AIOKafkaClient) -> tuple[int, int]:
    """Return a producer id that nobody else has, with its epoch, for batches that the broker stores once.

    Raises:
        aiokafka.errors.KafkaError: no broker answers, or it refuses.
    """
    node = client.get_random_node()
    if node is None:
        raise NodeNotReadyError("no broker is known")
    return await _producer_id(client, node, ConnectionGroup.DEFAULT, None, ANY)


async def _producer_id(
    client: AIOKafkaClient, node: Any, group: Any, identity: str | None, expected: tuple[int, int]
) -> tuple[int, int]:
    asked = InitProducerIdRequest[3](
        transactional_id=identity,
        transaction_timeout_ms=TRANSACTION_TIMEOUT_MS,
        producer_id=expected[0],
        producer_epoch=expected[1],
    )
    answer = await client.send(node, _Request(asked, InitProducerIdResponse[3]), group=group)
    error = for_code(answer.error_code)
    if error is not NoError:
        raise error("a producer id" if identity is None else f"the producer identity {identity!r}")
    return answer.producer_id, answer.producer_epoch
