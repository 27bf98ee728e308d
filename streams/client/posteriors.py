"""Consumer of posteriors."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from beliefstream.schemas import Posterior, Unusable, parse
from beliefstream.streams.client.producers import Place
from beliefstream.streams.kafka.connection import (
    Closing,
    Span,
    TopicReader,
    connect,
    connect_timeout,
    find_partitions,
    require_known,
)

MOST_ENTITIES = 100_000  # of a partition, 34 MB
log = structlog.get_logger(__name__)
COMMIT_INTERVAL = 1.0  # seconds; after a crash, posteriors of this time may be delivered again
# Seconds until a dead group member is detected. On the embedded broker a joining member waits for half of it.
SESSION_TIMEOUT = 10
LOOK_BACK = 1000  # records of a partition read again at the start, to recognise their duplicates
FETCH_MOST = 200  # records at once, so that a slow caller returns before the group gives up on it


class _LastPosterior(NamedTuple):
    order: tuple[int, int]  # sequence, revision
    time: float
    content: int  # hash of the posterior's observations


class Duplicates:
    """The last posterior of each entity in one partition, to recognise one that was sent twice.

    A worker may die after it has sent posteriors and before it has stored its beliefs. Its successor then sends the
    last posterior of an entity again, with the same sequence. If the second one contains more observations than the
    first, it is not a duplicate. A lower sequence is a new belief of the entity if it starts again at 1 or has a later
    time.

    The last `MOST_ENTITIES` entities are remembered: what is sent twice follows soon.
    """

    def __init__(self) -> None:
        self._last: OrderedDict[str, _LastPosterior] = OrderedDict()

    def is_new(self, posterior: Posterior) -> bool:
        """Whether the posterior is new; remembers it if so."""
        order = (posterior.sequence, posterior.revision)
        content = hash((posterior.time, posterior.prior_sequence, posterior.applied))
        last = self._last.get(posterior.entity)
        if last is not None:
            if order == last.order and content == last.content:
                return False
            if order < last.order and posterior.sequence > 1 and posterior.time <= last.time:
                return False
        self._last[posterior.entity] = _LastPosterior(order, posterior.time, content)
        self._last.move_to_end(posterior.entity)
        if len(self._last) > MOST_ENTITIES:
            self._last.popitem(last=False)
        return True


class _Item(NamedTuple):
    partition: Any
    offset: int
    posterior: Posterior | None  # None for a record that is not delivered, but whose offset is committed


@dataclass
class _Partition:
    """State of the consumer in one partition."""

    next: int  # offset of the next record to deliver
    done: int  # the caller has processed all records before this offset
    committed: int | None
    duplicates: Duplicates = field(default_factory=Duplicates)


class PosteriorConsumer(Closing):
    """An iterator of posteriors.

    >>> with PosteriorConsumer("localhost:9092", entities=["mower"], timeout=10) as posteriors:
    ...     for posterior in posteriors:
    ...         print(posterior.time, posterior.mixture.mean())

    **Start.** Without a group it starts at the end that the topic has when the consumer is created, or at its
    beginning. A group does the same the first time, and later continues at its committed offsets. The members of a
    group share the partitions.

    **Guarantees.** Every posterior is delivered at least once. A posterior counts as processed when the next one is
    requested (for a list from `poll`: when `poll` is called again), or at `commit` or `close`. If an exception leaves
    the `with` block, the last one does not count. Processed posteriors are committed every second and at `close`. So
    after a clean end nothing is delivered again. After a crash, or when a partition moves to another member of the
    group, unprocessed posteriors and those processed in the last second may be delivered again. A posterior that a
    worker has sent twice (equal entity, sequence, revision and observations) is delivered once. This also holds across
    a restart, if at most 1000 records of the partition are between the two.

    Records that are not posteriors are logged and skipped. While no broker answers, the consumer waits. It is not
    thread-safe.

    Args:
        bootstrap_servers: `host:port`, or several in a list or separated by commas.
        topic: topic of posteriors.
        group: consumer group, for which the broker stores the offsets.
        entities: entities to deliver posteriors of; all if None.
        from_beginning: start at the beginning of the topic instead of its end.
        last: start at most this many records before the end of each partition, the first time; not together with
            `from_beginning`.
        timeout: seconds without a posterior after which an iteration ends; never if None. Iterating again resumes.
        **kafka_options: options of `kafka.KafkaConsumer`, such as `security_protocol`, `sasl_*` and `ssl_*`.

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
        last: int | None = None,
        **kafka_options: Any,
    ) -> None:
        require_known(kafka_options, KafkaConsumer)
        self.topic = topic
        self._last = last
        self.group = group
        self._servers = bootstrap_servers
        self._keys = None if entities is None else {entity.encode() for entity in entities}
        self._from_beginning = from_beginning
        self._timeout = timeout
        self._options = kafka_options
        self._partitions: dict[Any, _Partition] = {}
        self._buffered: deque[_Item] = deque()
        # next offset of each partition after the caller has processed the last ones
        self._delivered: dict[Any, int] = {}
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
        """Return at most `most` posteriors, after waiting at most `timeout` seconds for the first."""
        return self._take(most, timeout)

    def answer(self, observation: Place | str, timeout: float = 30.0) -> Posterior:
        """Return the posterior that an observation has led to; those before it are skipped.

        Args:
            observation: its place, which the producer's future returns, or its id.
            timeout: seconds to wait.

        Raises:
            TimeoutError: no posterior of it has come: no worker runs, or it became a dead letter.
        """
        name = observation
        if isinstance(observation, Place):
            name = f"{observation.partition}:{observation.offset}"
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            for posterior in self.poll(left, 1):
                if name in posterior.applied:
                    return posterior
        raise TimeoutError(
            f"no posterior of observation {name} within {timeout:g} s; `beliefstream doctor` and "
            "`beliefstream dead-letters` say why"
        )

    @property
    def caught_up(self) -> bool:
        """Whether all that was in the topic when the consumer was created has been returned.

        In a group: all that was in the partitions of this member; False while it has none.
        """
        return (
            not self._buffered
            and bool(self._partitions)
            and all(
                self._consumer.position(partition) >= self._first_spans[partition.partition].end
                for partition in self._partitions
                if partition.partition in self._first_spans
            )
        )

    def commit(self) -> None:
        """Count all delivered posteriors as processed, and commit their offsets if there is a group."""
        self._mark_processed()
        self._commit()

    def close(self) -> None:
        """Count all delivered posteriors as processed, commit their offsets and close the connection."""
        self._close(processed=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(processed=error is None)

    def _open(self) -> Any:
        options = {
            "session_timeout_ms": SESSION_TIMEOUT * 1000,
            **self._options,
            "group_id": self.group,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",  # only if offsets have been deleted before they were read
        }
        consumer: Any = connect(KafkaConsumer, self._servers, options)
        if self.group is not None:
            consumer.subscribe([self.topic])
            # A member that joins before it knows the partitions is assigned none, and may remain without any.
            find_partitions(consumer, self.topic, self._servers)
            return consumer
        partitions = [TopicPartition(self.topic, number) for number in self._first_spans]
        consumer.assign(partitions)
        for partition in partitions:
            start = self._first_start(partition)
            consumer.seek(partition, start)
            self._partitions[partition] = _Partition(next=start, done=start, committed=None)
        return consumer

    def _close(self, processed: bool) -> None:
        if processed:
            self._mark_processed()
        self._commit()
        self._consumer.close(autocommit=False)

    def _take(self, most: int, timeout: float) -> list[Posterior]:
        deadline = time.monotonic() + timeout
        wait = 0.0  # first deliver records that are already fetched
        while True:
            self._mark_processed()
            if time.monotonic() >= self._next_commit:
                self._commit()
            if taken := self._deliver(most):
                return taken
            if wait > 0 and time.monotonic() >= deadline:
                return []
            self._fetch(wait)
            wait = min(max(deadline - time.monotonic(), 0.001), COMMIT_INTERVAL)

    def _deliver(self, most: int) -> list[Posterior]:
        posteriors: list[Posterior] = []
        while self._buffered and len(posteriors) < most:
            item = self._buffered.popleft()
            self._delivered[item.partition] = item.offset + 1
            if item.posterior is not None:
                posteriors.append(item.posterior)
        return posteriors

    def _mark_processed(self) -> None:
        for partition, offset in self._delivered.items():
            if partition in self._partitions:
                self._partitions[partition].done = offset
        self._delivered.clear()

    def _fetch(self, timeout: float) -> None:
        fetched = self._consumer.poll(timeout_ms=timeout * 1000, max_records=FETCH_MOST)
        new = self._follow_assignment()
        for partition, records in fetched.items():
            if partition in new or partition not in self._partitions:
                continue  # fetched from another offset than the start; it will be fetched again
            for record in records:
                self._accept(partition, self._partitions[partition], record)

    def _accept(self, partition: Any, state: _Partition, record: Any) -> None:
        posterior = None
        if self._keys is None or record.key in self._keys:
            posterior = self._read(record)
        if posterior is not None and not state.duplicates.is_new(posterior):
            posterior = None
        if record.offset >= state.next:  # earlier records are read only to recognise duplicates
            state.next = record.offset + 1
            self._buffered.append(_Item(partition, record.offset, posterior))

    def _read(self, record: Any) -> Posterior | None:
        try:
            return parse(Posterior, record.value)
        except Unusable as error:
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            log.warning(
                "record skipped: not a posterior", **place, reason=str(error.reason), detail=error.detail
            )
            return None

    def _follow_assignment(self) -> set[Any]:
        """Drop partitions that moved to another member; start and return the new ones."""
        if self.group is None:
            return set()
        assigned = self._consumer.assignment()
        for partition in self._partitions.keys() - assigned:
            del self._partitions[partition]
        new = assigned - self._partitions.keys()
        if new:
            spans = self._spans()
            for partition in new:
                self._begin(partition, spans[partition.partition])
            self._commit()
        return set(new)

    def _begin(self, partition: Any, span: Span) -> None:
        committed = self._consumer.committed(partition, timeout_ms=connect_timeout(self._options) * 1000)
        if committed is None:
            start = max(self._first_start(partition), span.begin)
        elif committed > span.end:  # the topic was deleted and created again
            start = span.begin
        else:
            start = max(committed, span.begin)
        self._consumer.seek(partition, max(start - LOOK_BACK, span.begin))
        # Commit at once: without a committed offset, a restart would start at a later end of the topic.
        self._partitions[partition] = _Partition(next=start, done=start, committed=committed)

    def _first_start(self, partition: Any) -> int:
        # a partition that was added later is read from 0
        span = self._first_spans.get(partition.partition, Span(0, 0))
        return span.begin if self._from_beginning else max(span.begin, span.end - (self._last or 0))

    def _spans(self) -> dict[int, Span]:
        with TopicReader(self._servers, self.topic, self._options) as reader:
            return reader.spans()

    def _commit(self) -> None:
        self._next_commit = time.monotonic() + COMMIT_INTERVAL
        if self.group is None:
            return
        owned = self._consumer.assignment()
        changed = {
            partition: state.done
            for partition, state in self._partitions.items()
            if state.done != state.committed and partition in owned
        }
        if not changed:
            return
        offsets = {partition: OffsetAndMetadata(done, "", -1) for partition, done in changed.items()}
        try:
            self._consumer.commit(offsets, timeout_ms=connect_timeout(self._options) * 1000)
        except KafkaError as error:  # another member has the partition, or no broker answers: try again later
            log.warning("offsets not committed", topic=self.topic, group=self.group, error=str(error))
            return
        for partition, done in changed.items():
            self._partitions[partition].committed = done
