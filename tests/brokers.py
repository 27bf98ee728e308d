"""Starts real brokers for the tests: the embedded one, and one node of Apache Kafka from its Maven jars."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self
from uuid import uuid4

import pytest
from filelock import FileLock

from beliefstream.streams.local.broker import EmbeddedBroker, GuardedProcess, free_port, wait_until_answers

KAFKA = Path(__file__).parent / "kafka"
CACHE = Path(__file__).parent.parent / ".cache" / "kafka"
START_TIMEOUT = 60.0  # seconds; 3 s on an idle machine
STOP_TIMEOUT = 30.0  # seconds; a clean stop takes about 1 s
# 16 MiB: a record of 10 MB, and the dead letter that wraps it, pass.
MESSAGE_MAX_BYTES = 16 * 1024 * 1024


class Broker(Protocol):
    """What a test gets to know about the broker it runs on."""

    @property
    def bootstrap_servers(self) -> str: ...

    @property
    def is_embedded(self) -> bool: ...


class EmbeddedNode(EmbeddedBroker):
    """The embedded broker, as the tests see it."""

    is_embedded = True


@dataclass(frozen=True)
class Place:
    """Where a node of a cluster is.

    Attributes:
        number: of the node. port, controller_port: where it listens.
        front_port, back_port: clients that come by `back_port` are told that the node is at `front_port`, where a
            proxy listens; neither if there is none.
    """

    number: int = 1
    port: int = field(default_factory=free_port)
    controller_port: int = field(default_factory=free_port)
    front_port: int = 0
    back_port: int = 0


class KafkaNode:
    """One Apache Kafka node, broker and controller in one, which can be stopped, killed and started again.

    It keeps its ports and its data over restarts; leaving the context deletes the data.

    Args:
        place: its own.
        cluster: the places of all nodes; those of one cluster have one `cluster_id`.
    """

    is_embedded = False

    def __init__(
        self, place: Place | None = None, cluster: Sequence[Place] = (), cluster_id: str = ""
    ) -> None:
        self._place = place or Place()
        self._cluster = list(cluster) or [self._place]
        self._cluster_id = cluster_id or new_cluster_id()
        self.port, self.controller_port = self._place.port, self._place.controller_port
        self.directory = Path(tempfile.mkdtemp(prefix="beliefstream-kafka-"))
        self._libraries = kafka_libraries()
        self._properties = self.directory / "server.properties"
        self._properties.write_text(self._configuration())
        self._process: GuardedProcess | None = None
        self._format_storage()

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def front_servers(self) -> str:
        """For clients that come through the proxy."""
        return f"127.0.0.1:{self._place.front_port}"

    @property
    def number(self) -> int:
        """Of the node in its cluster."""
        return self._place.number

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def start(self) -> Self:
        """Starts the node and returns when it answers Kafka requests."""
        process = self.launch()
        wait_until_answers(f"127.0.0.1:{self.port}", START_TIMEOUT, process)
        return self

    def launch(self) -> GuardedProcess:
        """Starts the node, and does not wait for it."""
        assert self._process is None, "already started"
        output = (self.directory / "server.log").open("a+b")
        command = self._java("kafka.Kafka", str(self._properties))
        self._process = GuardedProcess(command, grace=STOP_TIMEOUT, output=output)
        return self._process

    def stop(self) -> None:
        """Asks the node to shut down cleanly and waits until it is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.stop(STOP_TIMEOUT)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None, "not started"
        self._process.kill()
        self.stop()

    def log(self) -> str:
        """What the node has logged over all its starts."""
        return (self.directory / "server.log").read_text(errors="replace")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _java(self, *arguments: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={KAFKA / 'log4j2.xml'}"
        tuning = [
            "-Xmx512m",
            "-Xshare:auto",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
        ]  # start fast, use one core
        if (archive := self._class_archive).exists():
            tuning.append(f"-XX:SharedArchiveFile={archive}")
        return [java_program("java"), *tuning, logging, "-cp", f"{self._libraries}/*", *arguments]

    @property
    def _class_archive(self) -> Path:
        """Kafka's classes as Java keeps them in memory: a third of the processor time of a start is to read them."""
        return self._libraries.with_suffix(".jsa")

    def _format_storage(self) -> None:
        self._format(self._cluster_id)

    def _format(self, cluster_id: str, *more: str) -> None:
        """Formats the storage. Whoever is the first on a machine leaves the archive of classes behind."""
        arguments = ("format", "--cluster-id", cluster_id, "--config", str(self._properties), *more)
        archive = self._class_archive
        aside = archive.with_suffix(".new")
        with FileLock(f"{self._libraries}.lock"):
            java, *rest = self._java("kafka.tools.StorageTool", *arguments)
            leaves = [] if archive.exists() else [f"-XX:ArchiveClassesAtExit={aside}"]
            result = subprocess.run([java, *leaves, *rest], capture_output=True, text=True)
            if leaves and aside.exists():
                aside.rename(archive)
        if result.returncode != 0:
            raise RuntimeError(f"Kafka's storage could not be formatted:\n{result.stdout}{result.stderr}")

    def _configuration(self) -> str:
        copies = min(3, len(self._cluster))
        voters = ",".join(f"{each.number}@127.0.0.1:{each.controller_port}" for each in self._cluster)
        listening, known, protocols = "", "", ""
        if self._place.front_port:
            listening = f",FRONT://127.0.0.1:{self._place.back_port}"
            known, protocols = f",FRONT://127.0.0.1:{self._place.front_port}", ",FRONT:PLAINTEXT"
        settings = {
            "process.roles": "broker,controller",
            "node.id": self.number,
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}{listening}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}{known}",
            "listener.security.protocol.map": f"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}",
            "log.dirs": self.directory / "data",
            # One node cannot hold the three replicas that are the default.
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": (copies + 1) // 2,
            "share.coordinator.state.topic.replication.factor": copies,
            "share.coordinator.state.topic.min.isr": (copies + 1) // 2,
            "offsets.topic.num.partitions": 4,  # default 50: every one is a file to open at a restart
            "transaction.state.log.num.partitions": 4,
            # Tests do not wait for further members, and kill workers: these may have a session of a second.
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            # A killed node that comes back is let in when its former session has ended, 9 s by default.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            # No record twice a second that says nothing: a quarter of what a node costs that nobody uses.
            "metadata.max.idle.interval.ms": 0,
            # Records of tests are stamped long ago, and are to stay: no look at what is old, not even the first one.
            "log.retention.check.interval.ms": 86_400_000,
            "log.initial.task.delay.ms": 86_400_000,
            "log.cleaner.backoff.ms": 500,  # default 15 s: what a test has compacted is to be compacted soon
            "message.max.bytes": MESSAGE_MAX_BYTES,
            "auto.create.topics.enable": "false",  # a topic that nobody created is a bug a test must see
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())


def new_cluster_id() -> str:
    return uuid4().hex[:22]


class KafkaCluster:
    """Three nodes of Apache Kafka on one machine; any one can be missed."""

    is_embedded = False

    def __init__(self, size: int = 3) -> None:
        places = [Place(number) for number in range(1, size + 1)]
        cluster_id = new_cluster_id()
        self.nodes = [KafkaNode(place, places, cluster_id) for place in places]

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def __enter__(self) -> Self:
        processes = [node.launch() for node in self.nodes]  # none answers before most are there
        for node, process in zip(self.nodes, processes, strict=True):
            wait_until_answers(node.bootstrap_servers, START_TIMEOUT, process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.__exit__(kind, error, trace)


def java_program(name: str) -> str:
    """The path of `java` or `mvn`; skips the test where it is missing, fails it there if CI=true."""
    path = shutil.which(name)
    if path is None:
        message = f"Apache Kafka cannot be started for the tests: there is no `{name}` on this machine."
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


def kafka_libraries() -> Path:
    """The directory with Kafka's jars (43 MB), downloaded by Maven once for every version of the pom."""
    java_program("java")
    pom = KAFKA / "pom.xml"
    libraries = CACHE / hashlib.sha256(pom.read_bytes()).hexdigest()[:12]
    if libraries.exists():
        return libraries
    maven = java_program("mvn")
    CACHE.mkdir(parents=True, exist_ok=True)
    # Aside and renamed: a run that was interrupted leaves no half directory. One process does it for those beside it.
    with FileLock(f"{libraries}.lock"), tempfile.TemporaryDirectory(dir=CACHE) as aside:
        if libraries.exists():
            return libraries
        target = Path(aside) / "libraries"
        command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        result = subprocess.run([*command, f"-DoutputDirectory={target}"], capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(f"Maven could not bring Kafka's jars:\n{result.stdout}{result.stderr}")
        target.rename(libraries)
    return libraries
