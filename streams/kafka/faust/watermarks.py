"""The threads of consumers: one that ends without a broker too, and that of the embedded broker.

The embedded broker, tansu, differs from Apache Kafka in three ways.

**It reports ends that are too low.** Faust 0.15.3 asks for the ends of changelogs in `_highwaters` of its consumer's
thread, with ListOffsets(LATEST). That is right by Kafka's protocol. The embedded broker answers with the offset of the
last batch's first record, plus one. Fixed upstream when tansu answers with the offset after the last record.

**It reports beginnings that are too high.** It gives out offsets before it stores their records, and takes the batch
that it stored first for the beginning. If two producers send the first batches of a partition at once, that may be the
second one, and a worker that asked would never see the first. It deletes no records, so every log begins at 0. Fixed
upstream when tansu takes the batch with the lowest offset.

**It answers a waiting fetch late.** Faust asks a broker without new records to wait 1.5 s for some, and has no setting
for it. Apache Kafka answers at once when a record arrives. The embedded broker looks only after a part of that time. So
a posterior came half a second after its observation. Fixed upstream when tansu wakes up waiting fetches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError
from faust.transport.drivers.aiokafka import (
    AIOKafkaConsumerThread,
    Transport,
    credentials_to_aiokafka_auth,
    server_list,
)
from faust.types import TP

from beliefstream.streams.kafka.aiokafka_clients import stop_consumer, unless_cancelled
from beliefstream.streams.kafka.connection import EMBEDDED_FETCH_MS
from beliefstream.streams.monitoring.logs import SERVICES


class ConsumerThread(AIOKafkaConsumerThread):
    """Faust's, which would die of the CancelledError of a fetch when it stops without a broker."""

    logger = SERVICES

    async def on_thread_stop(self) -> None:
        """Stop the consumer."""
        with unless_cancelled():
            await super().on_thread_stop()


class HighWatermarkThread(ConsumerThread):
    """A consumer thread that begins at 0, finds the end of a partition by reading its last batch, and fetches often.

    With the end that the embedded broker reports, Faust would end the recovery of its tables too early. It would lose
    all records of the last batch but the first.
    """

    def _create_worker_consumer(self, transport: Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = EMBEDDED_FETCH_MS
        return consumer

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Return 0 for each."""
        return dict.fromkeys(partitions, 0)

    async def seek_to_beginning(self, *partitions: TopicPartition) -> None:
        """Seek them to 0."""
        for partition in partitions:
            await self.call_thread(self._ensure_consumer().seek, partition, 0)

    async def _highwaters(self, partitions: list[TP]) -> Mapping[TP, int]:
        ends = dict(await super()._highwaters(partitions))
        filled = {TopicPartition(*tp): end for tp, end in ends.items() if end}
        if not filled:
            return ends
        transport = cast(Transport, self.transport)
        reader = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=server_list(transport.url, transport.default_port),
            auto_offset_reset="earliest",
            **credentials_to_aiokafka_auth(self.app.conf.broker_credentials, self.app.conf.ssl_context),
        )
        await reader.start()
        try:
            async with asyncio.timeout(self.app.conf.broker_request_timeout):
                marks = await high_watermarks(reader, filled)
        except TimeoutError as error:
            raise KafkaTimeoutError(f"No high watermark for {sorted(filled)}") from error
        finally:
            await stop_consumer(reader)
        return {tp: marks.get(TopicPartition(*tp), end) for tp, end in ends.items()}


async def high_watermarks(
    reader: aiokafka.AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int]:
    """Return the high watermark from a fetch, for every partition of `ends`.

    Args:
        reader: a started consumer without a group.
        ends: for every partition, which must not be empty, the offset after one of its records.
    """
    reader.assign(list(ends))
    for partition, end in ends.items():
        reader.seek(partition, end - 1)
    marks: dict[TopicPartition, int] = {}
    while len(marks) < len(ends):
        await reader.getmany(timeout_ms=200)
        for partition in ends:
            mark = reader.highwater(partition)
            if mark is not None:
                marks[partition] = mark
    return marks
