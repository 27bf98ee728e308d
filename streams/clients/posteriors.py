"""Reading posteriors."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple, Self

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from schemas import Posterior, Unusable, parse
from streams.clients.connection import (
    Reader,
    Span,
    connect,
    connect_timeout,
    find_partitions,
    require_known,
)
from streams.clients.duplicates import Duplicates

log = structlog.get_logger(__name__)

COMMIT_INTERVAL = 1.0  # seconds; what a killed consumer may be given again
# Seconds until a member that died is missed. On the embedded broker a member that joins waits for half of it.
SESSION_TIMEOUT = 10
LOOK_BACK = 1000  # records of a partition read again at the start, to recognise duplicates of them
FETCH_MOST = 200  # records at once, so that a slow caller still comes back before the group gives up on it


class _Item(NamedTuple):
    partition: Any
    offset: int
    posterior: Posterior | None  # None: a record the caller does not get, whose offset counts all the same


@dataclass
class _Partition:
    """Where the consumer is in one partition."""

    next: int  # records before it have been given out, or are older than the start
    done: int  # the caller is finished with the records before it
    committed: int | None
    duplicates: Duplicates = field(default_factory=Duplicates)


class PosteriorConsumer:
    """An iterator of posteriors.

    >>> with PosteriorConsumer("localhost:9092", entities=["mower"], timeout=10) as posteriors:
    ...     for posterior in posteriors:
    ...         print(posterior.time, posterior.mixture.mean())

    **Where it begins.** Without a group: at the end of the topic as it is when the consumer is made, or at
    its beginning. With a group the same for the first time, afterwards where the group was. The members of
    a group share the partitions.

    **What is guaranteed.** Every posterior is given out at least once. A posterior counts as taken when the
    next is asked for (of a list from `poll`: when `poll` is called again), or at `commit` or `close`;
    leaving a `with` block by an exception does not count the last one. What was taken is committed every
    second and at `close`. So after a clean end nothing comes again. After a crash, or when a partition has
    gone to another member of the group, what was not taken comes again, and at most what was taken in the
    last second. What a worker has sent twice (equal entity, sequence, revision and observations) is given
    out once, also across a restart, if no more than 1000 records of the partition lie between.

    A record that is no posterior is logged and passed over. While no broker answers, the consumer waits.
    Not for use by several threads at once.

    Args:
        bootstrap_servers: `host:port`, or several in a list or separated by commas.
        topic: the topic of posteriors.
        group: the consumer group, which remembers the place.
        entities: only posteriors of these; of all, if absent.
        from_beginning: where to begin, see above.
        timeout: seconds without a posterior after which an iteration ends (it may be taken up again); if
            absent, it never ends.
        **kafka_options: of `kafka.KafkaConsumer`, such as `security_protocol`, `sasl_*`, `ssl_*`.

    Raises:
        BrokerUnavailable: no broker answers within 10 s (option `bootstrap_timeout_ms`).
        TopicMissing: the broker has no such topic.
    """

    def __init__(
        self,
        bootstrap_servers: str | list[str],
        topic: str = "posteriors",
        group: str | None = None,
        entities: Iterable[str] | None = None,
        from_beginning: bool = False,
        timeout: float | None = None,
        **kafka_options: Any,
    ) -> None:
        require_known(kafka_options, KafkaConsumer)
        self.topic = topic
        self.group = group
        self._servers = bootstrap_servers
        self._keys = None if entities is None else {entity.encode() for entity in entities}
        self._from_beginning = from_beginning
        self._timeout = timeout
        self._options = kafka_options
        self._partitions: dict[Any, _Partition] = {}
        self._waiting: deque[_Item] = deque()
        self._given: dict[Any, int] = {}  # offsets after what the caller has in hand
        self._next_commit = time.monotonic() + COMMIT_INTERVAL
        self._first_spans = self._spans()
        self._consumer: Any = self._open()

    def __iter__(self) -> Iterator[Posterior]:
        return self

    def __next__(self) -> Posterior:
        taken = self._take(1, math.inf if self._timeout is None else self._timeout)
        if not taken:
            raise StopIteration
        return taken[0]

    def poll(self, timeout: float = 1.0, most: int = 500) -> list[Posterior]:
        """What is there: at most `most` posteriors, after waiting at most `timeout` seconds for the first."""
        return self._take(most, timeout)

    def commit(self) -> None:
        """Counts all that was given out as taken, and commits it, if there is a group."""
        self._settle()
        self._commit()

    def close(self) -> None:
        """Counts all that was given out as taken, commits it and closes the connection."""
        self._close(taken=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(taken=error is None)

    def _open(self) -> Any:
        options = {
            "session_timeout_ms": SESSION_TIMEOUT * 1000,
            **self._options,
            "group_id": self.group,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",  # only where offsets have been deleted under the consumer
        }
        consumer: Any = connect(KafkaConsumer, self._servers, options)
        if self.group is not None:
            consumer.subscribe([self.topic])
            # A member that joins before it knows the partitions is assigned none, and may stay so.
            find_partitions(consumer, self.topic, self._servers, connect_timeout(self._options))
            return consumer
        partitions = [TopicPartition(self.topic, number) for number in self._first_spans]
        consumer.assign(partitions)
        for partition in partitions:
            start = self._first_start(partition)
            consumer.seek(partition, start)
            self._partitions[partition] = _Partition(next=start, done=start, committed=None)
        return consumer

    def _close(self, taken: bool) -> None:
        if taken:
            self._settle()
        self._commit()
        self._consumer.close(autocommit=False)

    def _take(self, most: int, timeout: float) -> list[Posterior]:
        deadline = time.monotonic() + timeout
        wait = 0.0  # first what has been fetched already
        while True:
            self._settle()
            if time.monotonic() >= self._next_commit:
                self._commit()
            if taken := self._give(most):
                return taken
            if wait > 0 and time.monotonic() >= deadline:
                return []
            self._fetch(wait)
            wait = min(max(deadline - time.monotonic(), 0.001), COMMIT_INTERVAL)

    def _give(self, most: int) -> list[Posterior]:
        given: list[Posterior] = []
        while self._waiting and len(given) < most:
            item = self._waiting.popleft()
            self._given[item.partition] = item.offset + 1
            if item.posterior is not None:
                given.append(item.posterior)
        return given

    def _settle(self) -> None:
        for partition, offset in self._given.items():
            if partition in self._partitions:
                self._partitions[partition].done = offset
        self._given.clear()

    def _fetch(self, timeout: float) -> None:
        fetched = self._consumer.poll(timeout_ms=timeout * 1000, max_records=FETCH_MOST)
        fresh = self._follow_assignment()
        for partition, records in fetched.items():
            if partition in fresh or partition not in self._partitions:
                continue  # read from elsewhere than where it begins: it comes again
            for record in records:
                self._accept(partition, self._partitions[partition], record)

    def _accept(self, partition: Any, place: _Partition, record: Any) -> None:
        posterior = None
        if self._keys is None or record.key in self._keys:
            posterior = self._read(record)
        if posterior is not None and not place.duplicates.is_new(posterior):
            posterior = None
        if record.offset >= place.next:  # else it was read only to recognise duplicates
            place.next = record.offset + 1
            self._waiting.append(_Item(partition, record.offset, posterior))

    def _read(self, record: Any) -> Posterior | None:
        try:
            return parse(Posterior, record.value)
        except Unusable as error:
            log.warning(
                "record passed over: not a posterior",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                reason=str(error.reason),
                detail=error.detail,
            )
            return None

    def _follow_assignment(self) -> set[Any]:
        """Forgets partitions that went to another member; begins, and returns, those that came."""
        if self.group is None:
            return set()
        assigned = self._consumer.assignment()
        for partition in self._partitions.keys() - assigned:
            del self._partitions[partition]
        fresh = assigned - self._partitions.keys()
        if fresh:
            spans = self._spans()
            for partition in fresh:
                self._begin(partition, spans[partition.partition])
            self._commit()
        return set(fresh)

    def _begin(self, partition: Any, span: Span) -> None:
        committed = self._consumer.committed(partition, timeout_ms=connect_timeout(self._options) * 1000)
        if committed is None:
            start = max(self._first_start(partition), span.begin)
        elif committed > span.end:  # the topic has been made anew
            start = span.begin
        else:
            start = max(committed, span.begin)
        self._consumer.seek(partition, max(start - LOOK_BACK, span.begin))
        # Committed at once, also where nothing was taken: a restart must not take a later end for the start.
        self._partitions[partition] = _Partition(next=start, done=start, committed=committed)

    def _first_start(self, partition: Any) -> int:
        span = self._first_spans.get(
            partition.partition, Span(0, 0)
        )  # a partition added since is read from 0
        return span.begin if self._from_beginning else span.end

    def _spans(self) -> dict[int, Span]:
        with Reader(self._servers, self.topic, self._options) as reader:
            return reader.spans()

    def _commit(self) -> None:
        self._next_commit = time.monotonic() + COMMIT_INTERVAL
        if self.group is None:
            return
        owned = self._consumer.assignment()
        changed = {
            partition: place.done
            for partition, place in self._partitions.items()
            if place.done != place.committed and partition in owned
        }
        if not changed:
            return
        offsets = {partition: OffsetAndMetadata(done, "", -1) for partition, done in changed.items()}
        try:
            self._consumer.commit(offsets, timeout_ms=connect_timeout(self._options) * 1000)
        except (
            KafkaError
        ) as error:  # another member has the partition, or the broker is away: it is tried again
            log.warning(
                "place in the topic not committed", topic=self.topic, group=self.group, error=str(error)
            )
            return
        for partition, done in changed.items():
            self._partitions[partition].committed = done
