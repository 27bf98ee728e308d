"""Whether a compacted topic has been compacted: offsets are missing in it."""

from __future__ import annotations

import time

from kafka import KafkaConsumer, TopicPartition

from beliefstream.streams.kafka.topics import MESSAGE_BYTES

LOOK_SECONDS = 1.0  # between two looks
LONGEST_LOOK = 5.0  # seconds
POLL_MS = 200


class Gaps:
    """Among the records of a topic that come after this.

    All of its offsets are taken by records, for there are no transactions in it: one that is missing was compacted.
    """

    def __init__(self, servers: str, topic: str, partitions: int) -> None:
        self._consumer = KafkaConsumer(
            bootstrap_servers=servers.split(","), group_id=None, max_partition_fetch_bytes=MESSAGE_BYTES
        )
        self._places = [TopicPartition(topic, partition) for partition in range(partitions)]
        self._consumer.assign(self._places)
        self._begin: dict[TopicPartition, int] = self._consumer.end_offsets(self._places)
        self._next_look = 0.0

    def found(self) -> bool:
        """Looks once a second, up to the first gap."""
        if time.monotonic() < self._next_look:
            return False
        for place, begin in self._begin.items():
            self._consumer.seek(place, begin)
        due = dict(self._begin)
        limit = time.monotonic() + LONGEST_LOOK  # new ones come all the time
        while time.monotonic() < limit and (polled := self._consumer.poll(timeout_ms=POLL_MS)):
            for place, records in polled.items():
                for record in records:
                    if record.offset != due[place]:
                        return True
                    due[place] += 1
        self._next_look = time.monotonic() + LOOK_SECONDS
        return False

    def close(self) -> None:
        self._consumer.close()
