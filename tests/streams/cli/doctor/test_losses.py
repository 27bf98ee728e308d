"""What the doctor says of losses: by workers' counters, by the group's offsets and by the changelog."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata
from prometheus_client import CollectorRegistry, Counter, start_http_server

from beliefstream.inference.tracking.events import Belief
from beliefstream.schemas import PositionSensor, RangeSensor
from beliefstream.streams.cli.doctor.findings import Finding, Status
from beliefstream.streams.cli.doctor.losses import (
    COUNTERS,
    examine_changelog,
    examine_losses,
    examine_offsets,
)
from beliefstream.streams.kafka import topics
from beliefstream.streams.kafka.partitioners import partition_of
from beliefstream.streams.local.simulated_fleet import fleet_model
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.settings import Settings
from beliefstream.streams.state.record import INTERNAL, VERSION, BeliefRecord
from tests.brokers import EmbeddedNode, KafkaNode
from tests.conftest import Names, eventually
from tests.streams.cli.doctor.test_run import settings_of
from tests.streams.workers import PARTITIONS, Stream, Worker, stream

NOBODY = "http://127.0.0.1:1"
WAIT = 60.0  # seconds
HERE = partition_of(b"boat", PARTITIONS)


def the_problem(findings: Iterator[Finding] | list[Finding], *parts: str) -> Finding:
    """The one problem that says all of `parts`; it says how to fix it too."""
    (found,) = (each for each in findings if all(part in each.detail for part in parts))
    assert found.status is Status.problem
    assert found.subject == "losses"
    assert found.remedy
    return found


def send(opened: Stream) -> None:
    """What belongs nowhere: a record in another partition, a time to come, a range below zero; and one far off."""
    opened.define(
        [
            PositionSensor(sensor="gps", standard_deviation=1.0, outlier_probability=0.01),
            RangeSensor(sensor="mast", position=(0, 0), standard_deviation=0.5),
            fleet_model().model_copy(update={"live_time": True}),
        ]
    )
    now = time.time()
    elsewhere = b'{"entity":"boat","sensor":"gps","time":1,"value":[1,2]}'
    topic = opened.names.topics.observations
    opened.raw.send(topic, key=b"boat", value=elsewhere, partition=(HERE + 1) % PARTITIONS).get(30)
    opened.observations.send("boat", "gps", (1.0, 2.0), time=now)
    opened.observations.send("boat", "gps", (1.0, 2.0), time=now + 7200)
    opened.observations.send("boat", "mast", -50.0, time=now)
    opened.observations.send("boat", "gps", (1e6, 0.0), time=now + 0.001)
    opened.observations.flush()


def test_what_a_worker_has_refused_or_doubted_is_a_line_each(
    embedded_broker: EmbeddedNode, names: Names, tmp_path: Path
) -> None:
    settings = settings_of(embedded_broker, names)
    with stream(embedded_broker, names, tmp_path) as opened:
        worker = opened.worker().start()
        url = f"http://127.0.0.1:{worker.port}"
        (before,) = examine_losses(settings, [url])
        assert before.status is Status.ok
        assert before.detail.startswith(
            f"none by the counters of the worker at {url}, the workers' offsets, the"
        )

        send(opened)
        eventually(lambda: counted(worker), WAIT, "the worker has counted all")
        assert worker.metrics()["beliefstream_expected_outliers_total/gps"] == pytest.approx(0.02)
        findings = list(examine_losses(settings, [url]))
    the_problem(findings, f"1 record of {names.topics.observations!r} in the wrong partition", url)
    the_problem(findings, "1 message refused, because the time was in the future")
    the_problem(findings, "1 message refused, because the sensor cannot report such a value")
    the_problem(findings, "1 observation of 'gps', beyond its outlier_probability, more than 100")
    assert [each.status for each in findings] == [*[Status.problem] * 4, Status.ok]
    assert findings[-1].detail == "none by the workers' offsets, the changelog"


def counted(worker: Worker) -> bool:
    found = worker.metrics()
    seen = sum(count for name, count in found.items() if name.startswith("beliefstream_implausible_total"))
    return (found["beliefstream_observations_total/rejected"], seen) == (3.0, 1.0)


def test_every_counter_that_is_looked_at_is_a_workers() -> None:
    ours = {
        f"{family.name}_total": family for family in metrics.REGISTRY.collect() if family.type == "counter"
    }
    for counter in COUNTERS:
        labels = {label for sample in ours[counter.name].samples for label in sample.labels}
        assert counter.label in labels or not counter.label or not labels
        values = {sample.labels.get(counter.label) for sample in ours[counter.name].samples}
        assert values >= set(counter.values), "every series is there from the start"
        assert not counter.expected or counter.expected in ours


def test_outliers_that_a_definition_expects_are_no_loss() -> None:
    far = {"stated": 30, "wrong": 30, "surprising": 1}
    with exposed(0, {}, {}, far, {"stated": 25.0, "wrong": 5.0}) as url:
        findings = list(examine_losses(Settings(), [url], missing=None))
    (problem,) = findings
    assert problem.status is Status.problem
    assert problem.detail.startswith("25 observations of 'wrong', beyond its outlier_probability, more than")
    assert "; 1 observation of 'surprising', beyond" in problem.detail
    assert "'stated'" not in problem.detail


@contextmanager
def exposed(
    stalls: int,
    faults: dict[str, int],
    lost: dict[str, int],
    implausible: Mapping[str, int] = MappingProxyType({}),
    expected: Mapping[str, float] = MappingProxyType({}),
) -> Iterator[str]:
    """The URL of a Prometheus client with counters as a worker has them, which it cannot be brought to at will."""
    registry = CollectorRegistry()
    Counter("beliefstream_stalls", "stalls", registry=registry).inc(stalls)
    of_logs = Counter("beliefstream_log_faults", "faults", ["fault"], registry=registry)
    of_topics = Counter("beliefstream_lost_offsets", "lost", ["topic"], registry=registry)
    far = Counter("beliefstream_implausible", "implausible", ["sensor"], registry=registry)
    stated = Counter("beliefstream_expected_outliers", "expected", ["sensor"], registry=registry)
    for counter, counts in ((of_logs, faults), (of_topics, lost), (far, implausible), (stated, expected)):
        for label, count in counts.items():
            counter.labels(label).inc(count)
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_every_worker_is_asked_and_those_that_cannot_be_are_named() -> None:
    lost = {f"topic-{number}": number for number in range(6)}
    with exposed(2, {"gone": 3, "cut": 0}, {}) as first, exposed(0, {"emptied": 1}, lost) as second:
        findings = list(examine_losses(Settings(), [first, second, NOBODY], missing=None))
    stalled = the_problem(findings, "2 times a worker has stopped because it was stalled", first)
    assert "Stalled" in stalled.remedy
    the_problem(findings, "3 partitions with lost beliefs whose messages no longer exist", "(gone)", first)
    the_problem(findings, "1 time the changelog had lost beliefs", "(emptied)", second)
    missed = the_problem(findings, "5 messages of 'topic-5' deleted before", "; 2 more with 3 (since", second)
    assert "retention" in missed.remedy
    assert [each.status for each in findings] == [*[Status.problem] * 4, Status.skipped]
    assert findings[-1].detail.startswith(f"the counters of the worker at {NOBODY}: it does not answer: ")


def test_a_worker_that_asks_for_a_token_is_named(
    embedded_broker: EmbeddedNode, names: Names, tmp_path: Path
) -> None:
    token = "a-token-of-many-letters"
    with stream(embedded_broker, names, tmp_path) as opened:
        url = f"http://127.0.0.1:{opened.worker(web_token=token).start().port}"
        (finding,) = examine_losses(settings_of(embedded_broker, names), [url], missing=None)
        assert (finding.status, finding.remedy) == (Status.skipped, "set BELIEFSTREAM_WEB_TOKEN")
        with_token = settings_of(embedded_broker, names, web_token=token)
        (finding,) = examine_losses(with_token, [url], missing=None)
        assert finding.status is Status.ok


@pytest.mark.kafka
def test_messages_deleted_before_they_were_read_are_seen_without_a_worker(
    kafka_broker: KafkaNode, names: Names
) -> None:
    settings = settings_of(kafka_broker, names)
    topics.create(kafka_broker.bootstrap_servers, names.topics, partitions=PARTITIONS)
    producer = KafkaProducer(bootstrap_servers=kafka_broker.bootstrap_servers)
    for _ in range(10):
        producer.send(settings.names.observations, key=b"boat", value=b"{}", partition=2).get(30)
    producer.close()
    commit(settings, {2: 3, 1: 5})  # of partition 1 there is nothing
    the_problem(
        examine_offsets(settings, [settings.names.observations]),
        "1 partition created again, or without the end that was read",
        f"{settings.names.observations}-1 ends at 0 and was read up to 5",
    )
    commit(settings, {1: 0})
    assert list(examine_offsets(settings, [settings.names.observations])) == []
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    admin.delete_records({TopicPartition(settings.names.observations, 2): 8})
    admin.close()
    finding = the_problem(
        examine_losses(settings, [], frozenset()),
        f"5 messages deleted before {settings.application!r} had read that far",
    )
    assert finding.detail.endswith(f"{settings.names.observations}-2 3 to 7")
    commit(settings, {2: 8})
    (finding,) = examine_losses(settings, [], frozenset())
    assert (finding.status, finding.detail) == (Status.ok, "none by the workers' offsets, the changelog")


def commit(settings: Settings, offsets: dict[int, int]) -> None:
    """As the workers' group does."""
    group = KafkaConsumer(
        bootstrap_servers=settings.brokers, group_id=settings.application, enable_auto_commit=False
    )
    places = {
        TopicPartition(settings.names.observations, number): offset for number, offset in offsets.items()
    }
    group.assign(list(places))
    group.commit({place: OffsetAndMetadata(offset, "", -1) for place, offset in places.items()})
    group.close()


def test_records_of_the_changelog_that_no_worker_can_read_are_found(
    embedded_broker: EmbeddedNode, names: Names
) -> None:
    settings, changelog = settings_of(embedded_broker, names), names.topics.beliefs_changelog
    topics.create(embedded_broker.bootstrap_servers, names.topics, partitions=PARTITIONS)
    sound = BeliefRecord.of(Belief(1.0, np.ones(1), np.zeros((1, 2)), np.eye(2)[None]), ("x", "y")).encode()
    producer: Any = KafkaProducer(bootstrap_servers=embedded_broker.bootstrap_servers)
    for key, value in (
        (b"sound", sound),
        (b"cut", sound[:-9]),
        (b"mended", sound[:-9]),
        (b"mended", sound),
        (b"forgotten", b"?"),
        (b"forgotten", None),
        (b"newer", bytes([VERSION + 1]) + sound[1:]),
        (INTERNAL + b"origin", b"{}"),
    ):
        producer.send(changelog, key=key, value=value, partition=1).get(30)
    damaged, strange = examine_changelog(settings)
    the_problem([damaged], f"1 record of {changelog!r} damaged", "'cut' in partition 1", "a record")
    assert "a record without a value" in damaged.remedy
    the_problem(
        [strange],
        "1 record of",
        "of another version",
        f"'newer' in partition 1, a record of version {VERSION + 1}",
    )
    for key in (b"cut", b"newer"):
        producer.send(changelog, key=key, value=None, partition=1).get(30)
    producer.close()
    assert list(examine_changelog(settings)) == []
