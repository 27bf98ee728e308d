"""Real workers for the tests, each a process of its own, and what they leave on the topics."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from beliefstream.schemas import DeadLetter, Posterior, parse
from beliefstream.streams.client import ObservationProducer, PriorPublisher, Registry
from beliefstream.streams.kafka import topics
from beliefstream.streams.kafka.topics import MESSAGE_BYTES, TopicNames
from beliefstream.streams.local.broker import free_port
from beliefstream.streams.settings import Settings
from beliefstream.streams.settings.topics import TOPICS
from tests.brokers import Broker
from tests.conftest import Names, eventually
from tests.http_answers import ask_if_there
from tests.streams.processes import Fork, Process, Program

START_TIMEOUT = 90.0  # seconds; 4 to 10 s, most of it importing torch
PAGE_TIMEOUT = 30.0  # a machine that stands still answers late
GONE_SECONDS = 60.0  # until a topic that was deleted is not there any more
STOP_TIMEOUT = 30.0  # seconds between SIGTERM and SIGKILL
PARTITIONS = 4
SESSION = 6.0  # seconds; the least that a worker takes
COMMAND = (str(Path(sys.executable).with_name("beliefstream")), "worker")


class Worker:
    """`beliefstream worker` in a process that ends with this one.

    Args:
        broker: where it reads and writes.
        names: its consumer group and topics.
        directory: for what it logs.
        settings: of `streams.settings.Settings`, by name.

    Attributes:
        command: a program to run instead of `module`, without what forks share; None for none.
    """

    def __init__(self, broker: Broker, names: Names, directory: Path, **settings: Any) -> None:
        self.port = free_port()
        defaults: dict[str, Any] = {
            "brokers": broker.bootstrap_servers,
            "application": names.app_id,
            "partitions": PARTITIONS,
            "session_timeout": SESSION,
            "web_address": f"127.0.0.1:{self.port}",
            "topics": renamed(names.topics),
            "fetch_high_watermark": broker.is_embedded,
            "logs": "json",
        }
        chosen = Settings(**(defaults | settings))
        self.environment = os.environ | chosen.environment()
        self._output = directory / f"worker-{self.port}.log"
        self._process: Process | None = None
        self.command: tuple[str, ...] | None = None

    module = "beliefstream.streams.cli"

    def launch(self) -> Self:
        """Starts the process, and does not wait for it."""
        if self.command is None:
            self._process = Fork(self.module, ["worker"], self.environment, self._output)
        else:
            self._process = Program(self.command, self.environment, self._output, STOP_TIMEOUT)
        return self

    def start(self) -> Self:
        """Starts the process and returns when it processes observations."""
        return self.launch().wait_until_ready()

    def wait_until_ready(self) -> Self:
        eventually(lambda: self.page("/readyz")[0] == 200, START_TIMEOUT, "the worker is ready")
        return self

    def page(self, path: str) -> tuple[int, str]:
        """Status and body; (0, "") if nobody answers. Fails the test if the worker has ended."""
        if not self.running:
            pytest.fail(f"The worker has ended:\n{self.log()[-3000:]}")
        answer = ask_if_there(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}"), timeout=5.0)
        return answer.status, answer.body.decode()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.status() is None

    @property
    def pid(self) -> int:
        return self._started.pid

    @property
    def _started(self) -> Process:
        assert self._process is not None
        return self._process

    @property
    def assigned(self) -> set[str]:
        """`topic-partition` of what it owns, once it is ready; else nothing."""
        status, body = self.page("/readyz")
        return set(json.loads(body)["assigned"]) if status == 200 else set()

    def metrics(self) -> dict[str, float]:
        """Samples by name, with the values of their labels behind it: `beliefstream_..._total/accepted`."""
        found = eventually(self._scraped, PAGE_TIMEOUT, "the worker shows its metrics")
        assert found is not None
        status, body = found
        assert status == 200, body
        return {
            "/".join([sample.name, *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
        }

    def _scraped(self) -> tuple[int, str] | None:
        found = self.page("/metrics")
        return found if found[0] else None

    def terminate(self) -> int:
        """SIGTERM; the exit status (1 also if a signal ended it)."""
        self._started.ask_to_end()
        try:
            return self._started.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._started.kill()
            raise

    def kill(self) -> None:
        """kill -9."""
        self._started.kill()

    def suspend(self) -> None:
        """SIGSTOP: it does nothing, sends no heartbeats, and does not know."""
        os.kill(self.pid, signal.SIGSTOP)

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Ends it however it can, if it runs."""
        if self.running:
            self.kill()

    def wait_until_ended(self, timeout: float) -> int:
        """Its exit status, when it has ended by itself."""
        return self._started.wait(timeout)

    def log(self) -> str:
        return self._output.read_text(errors="replace")


def renamed(topics: TopicNames) -> dict[str, str]:
    """The setting `topics` of these names."""
    return {topic: getattr(topics, topic) for topic in TOPICS}


class Stream:
    """The topics of one test and the clients on them; `worker` starts workers that end with the test."""

    def __init__(self, broker: Broker, names: Names, directory: Path) -> None:
        self.broker, self.names, self._directory = broker, names, directory
        self._workers: list[Worker] = []
        self._opened: list[Any] = []
        servers, chosen = broker.bootstrap_servers, names.topics
        topics.create(servers, chosen, partitions=PARTITIONS)
        self.observations = self.new_device()
        self.priors = self._open(PriorPublisher(servers, chosen.priors, observations=chosen.observations))
        self.registry = self._open(Registry(servers, chosen.sensors, chosen.models))
        self.raw = self._open(KafkaProducer(bootstrap_servers=servers, max_request_size=MESSAGE_BYTES))
        self.posteriors = self._open(Reading(servers, chosen.posteriors))
        self.dead_letters = self._open(Reading(servers, chosen.dead_letters))

    def _open(self, client: Any) -> Any:
        self._opened.append(client)
        return client

    def new_device(self) -> Any:
        """A producer that knows nothing of what was sent before."""
        return self._open(ObservationProducer(self.broker.bootstrap_servers, self.names.topics.observations))

    def worker(self, **settings: Any) -> Worker:
        """A worker on these topics, not started yet."""
        self._workers.append(Worker(self.broker, self.names, self._directory, **settings))
        return self._workers[-1]

    def define(self, definitions: Iterable[Any]) -> None:
        """Sensors and models, acknowledged."""
        for definition in definitions:
            if hasattr(definition, "sensor"):
                self.registry.set_sensor(definition)
            else:
                self.registry.set_model(definition)

    def send(self, topic: str, key: bytes | None, value: bytes | None) -> tuple[str, int, int]:
        """Bytes as they are; where the broker put them."""
        place = self.raw.send(topic, key=key, value=value).get(30)
        return place.topic, place.partition, place.offset

    def committed(self, topic: str, partition: int) -> int:
        """The offset that the worker's group has committed."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.broker.bootstrap_servers,
            group_id=self.names.app_id,
            enable_auto_commit=False,
        )
        try:
            return consumer.committed(TopicPartition(topic, partition)) or 0
        finally:
            consumer.close()

    def close(self) -> None:
        for worker in self._workers:
            worker.stop()
        for client in self._opened:
            client.close()


@contextmanager
def stream(broker: Broker, names: Names, directory: Path) -> Iterator[Stream]:
    """A `Stream` whose workers and connections end with the block."""
    opened = Stream(broker, names, directory)
    try:
        yield opened
    finally:
        opened.close()


class Reading:
    """All records of a topic from its beginning, as far as they have been read."""

    def __init__(self, servers: str, topic: str) -> None:
        self.records: list[Any] = []
        self._consumer = KafkaConsumer(
            bootstrap_servers=servers,
            group_id=None,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=MESSAGE_BYTES,
        )
        places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
        self._consumer.assign(places)
        for place in places:  # the embedded broker may report a beginning that is too high
            self._consumer.seek(place, 0)

    def poll(self, timeout: float = 0.2) -> None:
        """Reads what is there, waiting at most `timeout` seconds (s) for it."""
        for records in self._consumer.poll(timeout_ms=round(timeout * 1000)).values():
            self.records.extend(records)

    def wait_for(self, condition: Callable[[list[Any]], Any], timeout: float, what: str) -> Any:
        """Reads until the condition on all records holds, and returns what it returned."""
        deadline = time.monotonic() + timeout
        while not (found := condition(self.records)):
            if time.monotonic() > deadline:
                pytest.fail(f"not within {timeout:g} s: {what}; {len(self.records)} records")
            self.poll()
        return found

    def close(self) -> None:
        self._consumer.close()


def posteriors_of(records: Iterable[Any]) -> dict[str, list[Posterior]]:
    """By entity, without those whose sequence number has been there: what a reader takes."""
    found: dict[str, list[Posterior]] = {}
    for record in records:
        posterior = parse(Posterior, record.value)
        assert record.key == posterior.entity.encode()
        taken = found.setdefault(posterior.entity, [])
        if not taken or posterior.sequence > taken[-1].sequence:
            taken.append(posterior)
    return found


def dead_letters_of(records: Iterable[Any]) -> dict[tuple[str, int, int], DeadLetter]:
    """By the place of what they came from; one that was sent twice counts once."""
    letters = (DeadLetter.from_record(record.key, record.value, record.headers) for record in records)
    return {(letter.topic, letter.partition, letter.offset): letter for letter in letters}


def make_again(servers: str, names: TopicNames, topic: str, partitions: int, replication: int = 1) -> None:
    """Deletes the topic, and creates it when it has gone."""
    admin = KafkaAdminClient(bootstrap_servers=servers.split(","))
    try:
        admin.delete_topics([topic])
        eventually(lambda: topic not in admin.list_topics(), GONE_SECONDS, "the topic has gone")
    finally:
        admin.close()
    topics.create(servers, names, partitions=partitions, replication=replication)


def add_partitions(servers: str, topic: str, total: int) -> None:
    """So that there are so many; Kafka moves no message, and keys go to others from then on."""
    admin = KafkaAdminClient(bootstrap_servers=servers.split(","))
    try:
        admin.create_partitions({topic: total})
        # the controller has agreed; the broker that others ask may not have heard of it
        eventually(
            lambda: len(admin.describe_topics([topic])[0]["partitions"]) == total,
            GONE_SECONDS,
            "they are there",
        )
    finally:
        admin.close()
