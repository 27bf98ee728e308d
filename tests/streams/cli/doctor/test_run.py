"""What the doctor says of real brokers on which something is wrong, and how to fix it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from beliefstream.streams.cli.doctor import records as doctor_records
from beliefstream.streams.cli.doctor.records import examine_partitioner, examine_records
from beliefstream.streams.cli.doctor.run import Finding, Status, examine
from beliefstream.streams.cli.doctor.topics import examine_topics
from beliefstream.streams.kafka import topics
from beliefstream.streams.local.broker import free_port
from beliefstream.streams.settings import Settings
from tests.brokers import Broker
from tests.conftest import Names
from tests.streams.placements import FNV1A, KEYS, LIBRDKAFKA, MURMUR2, placed
from tests.streams.workers import renamed

NOBODY = "http://127.0.0.1:1"
PARTITIONS = 4


@pytest.fixture
def settings(broker: Broker, names: Names, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of topics that exist, without records."""
    monkeypatch.setattr(doctor_records, "PATIENCE", 2.0)
    topics.create(broker.bootstrap_servers, names.topics, partitions=PARTITIONS)
    return settings_of(broker, names)


def settings_of(broker: Broker, names: Names, **changes: Any) -> Settings:
    given = {
        "topics": renamed(names.topics),
        "brokers": broker.bootstrap_servers,
        "application": names.app_id,
        "partitions": PARTITIONS,
    }
    return Settings(**{**given, **changes})


@pytest.fixture
def producer(broker: Broker) -> Iterator[Any]:
    opened = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    yield opened
    opened.close()


def found(settings: Settings) -> dict[str, Finding]:
    findings = {finding.subject: finding for finding in examine_records(settings)}
    assert "records" not in findings, findings["records"]
    return findings


def problem(finding: Finding, *parts: str) -> None:
    """It is one, says all of `parts`, and how to fix it."""
    assert finding.status is Status.problem
    for part in parts:
        assert part in finding.detail
    assert finding.remedy


def test_without_records_there_is_nothing_to_say(settings: Settings) -> None:
    findings = found(settings)
    assert {subject: finding.status for subject, finding in findings.items()} == {
        "partitioner": Status.skipped,
        "clocks": Status.skipped,
        "group": Status.ok,
    }


def test_records_of_our_own_clients_lie_where_they_belong(settings: Settings, producer: Any) -> None:
    for number in range(50):
        producer.send(settings.names.observations, key=b"e-%d" % number, value=b"{}")
    producer.flush()
    findings = found(settings)
    assert findings["partitioner"].status is Status.ok
    assert "50 newest records" in findings["partitioner"].detail
    assert findings["clocks"].status is Status.ok


def test_a_record_in_the_wrong_partition_is_found_by_its_key(settings: Settings, producer: Any) -> None:
    right = producer.send(settings.names.observations, key=b"anna", value=b"{}").get(30).partition
    wrong = (right + 1) % PARTITIONS
    producer.send(settings.names.observations, key=b"anna", value=b"{}", partition=wrong).get(30)
    finding = found(settings)["partitioner"]
    problem(finding, "1 of the 2 newest", "'anna'", settings.names.observations, f"in {wrong}, not {right}")
    assert "(50%)" in finding.detail
    assert "partitioner: not recognised" in finding.detail  # one key tells nothing
    assert "murmur2_random" in finding.remedy


def record(topic: str, key: bytes | None, partition: int) -> Any:
    return SimpleNamespace(topic=topic, key=key, partition=partition)


@pytest.mark.parametrize(
    ("placements", "cause", "remedy"),
    [(LIBRDKAFKA, "librdkafka", "murmur2_random"), (FNV1A, "Sarama", "docs/producers.md")],
)
def test_the_partitioner_that_explains_what_lies_elsewhere_is_named(
    placements: str, cause: str, remedy: str
) -> None:
    records = [record("observations", key, partition) for key, partition in placed(placements)]
    records += [record("priors", key, partition) for key, partition in placed(MURMUR2)]
    finding = examine_partitioner(records, {"observations": 8, "priors": 8})
    problem(finding, "of the 40 newest records (9", cause, "'observations'")
    assert "'priors'" not in finding.detail
    assert remedy in finding.remedy


def test_records_in_turns_follow_no_hash() -> None:
    records = [record("priors", KEYS[number // 8], number % 8) for number in range(40)]
    finding = examine_partitioner(records, {"observations": 8, "priors": 8})
    problem(finding, "35 of the 40 newest records (88%)", "round robin", "'priors'")


def test_records_without_a_key_are_found() -> None:
    records = [record("observations", None, 0), record("observations", b"entity-00", 3)]
    finding = examine_partitioner(records, {"observations": 8})
    problem(finding, "without a key, and so dead letters: 1 of the 2 newest records (50%)", "dead letters")
    assert finding.remedy == "send the entity as the key"


@pytest.mark.parametrize("broker", ["embedded"], indirect=True)  # Kafka is told to stamp these records itself
def test_a_record_from_the_future_tells_of_a_clock(settings: Settings, producer: Any) -> None:
    ahead = round((time.time() + 90) * 1000)
    producer.send(settings.names.priors, key=b"anna", value=b"{}", timestamp_ms=ahead).get(30)
    problem(
        found(settings)["clocks"], "'anna'", settings.names.priors, "s ahead of our clock", "sender's clock"
    )


def test_a_group_that_does_not_move_is_found_with_its_places(settings: Settings, producer: Any) -> None:
    for _ in range(3):
        place = producer.send(settings.names.observations, key=b"anna", value=b"{}").get(30)
    finding = found(settings)["group"]
    problem(finding, settings.application, f"{place.topic}-{place.partition} at 0", "3 messages waiting")
    assert "/readyz" in finding.remedy


def test_a_group_that_has_read_all_or_goes_on_is_well(settings: Settings, producer: Any) -> None:
    places = [
        producer.send(settings.names.observations, key=b"anna", value=b"{}").get(30) for _ in range(300)
    ]
    partition = TopicPartition(settings.names.observations, places[0].partition)
    group: Any = KafkaConsumer(
        bootstrap_servers=settings.brokers, group_id=settings.application, enable_auto_commit=False
    )
    group.assign([partition])
    stop = threading.Event()

    def commit_one_after_the_other() -> None:
        for offset in range(1, 299):
            group.seek(partition, offset)
            group.commit()
            if stop.wait(0.2):
                return

    reader = threading.Thread(target=commit_one_after_the_other)
    reader.start()
    try:
        finding = found(settings)["group"]
    finally:
        stop.set()
        reader.join()
    assert finding.status is Status.ok
    assert "makes progress" in finding.detail
    group.seek(partition, 300)
    group.commit()
    group.close()
    finding = found(settings)["group"]
    assert finding.status is Status.ok
    assert "has read everything" in finding.detail


def test_another_number_of_partitions_is_found(settings: Settings, broker: Broker, names: Names) -> None:
    assert examine_topics(settings).status is Status.ok
    finding = examine_topics(settings_of(broker, names, partitions=8))
    problem(finding, f"The topic {settings.names.observations!r} has 4 partitions instead of 8")
    assert "BELIEFSTREAM_PARTITIONS" in finding.remedy


def test_topics_whose_batches_only_workers_unpack_are_named(
    settings: Settings, broker: Broker, names: Names
) -> None:
    assert examine_topics(settings).detail == f"all exist, {PARTITIONS} partitions"
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    as_they_come = f"{names.topics.priors}-as-they-come"
    admin.create_topics(
        [NewTopic(as_they_come, PARTITIONS, 1, topic_configs={"max.message.bytes": "12582912"})]
    )
    admin.wait_for_topics([as_they_come], timeout_ms=30_000)
    admin.close()
    finding = examine_topics(
        settings_of(broker, names, topics=renamed(names.topics) | {"priors": as_they_come})
    )
    assert finding.status is Status.ok  # where every sender is trusted
    assert finding.detail.endswith(f"(deploy/SECURITY.md): {as_they_come}")


def test_a_changelog_that_forgets_is_found(broker: Broker, names: Names) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    changelog = names.topics.beliefs_changelog
    forgetful = NewTopic(changelog, PARTITIONS, 1, topic_configs={"cleanup.policy": "delete"})
    admin.create_topics([forgetful])
    admin.close()
    topics.create(broker.bootstrap_servers, names.topics, partitions=PARTITIONS)
    finding = examine_topics(settings_of(broker, names))
    problem(finding, f"The topic {changelog!r} has cleanup.policy=delete instead of compact")
    assert "cleanup.policy=compact" in finding.remedy


def test_all_of_it_is_looked_at_one_after_the_other(settings: Settings) -> None:
    findings = {finding.subject: finding for finding in examine(settings, [NOBODY])}
    assert list(findings) == [
        *("broker", "topics", "models", "sensors", "measurements", "sensor-health"),
        *("partitioner", "clocks", "group", "dead-letters"),
        *("install", "device", "weights", "native-code", "worker", "clock", "losses"),
    ]
    for subject in ("models", "sensors"):
        problem(findings[subject], "none is defined")


def missing_but(broker: Broker, names: Names, *there: str) -> Settings:
    """Of topics of which only these are there."""
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in there])
    admin.wait_for_topics(list(there), timeout_ms=30_000)
    admin.close()
    return settings_of(broker, names)


def all_of(settings: Settings) -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine(settings, [NOBODY])}


def test_a_wrong_number_of_partitions_does_not_hide_a_group_that_is_stuck(
    settings: Settings, broker: Broker, names: Names, producer: Any
) -> None:
    place = producer.send(settings.names.observations, key=b"anna", value=b"{}").get(30)
    findings = all_of(settings_of(broker, names, partitions=8))
    problem(findings["topics"], f"The topic {settings.names.observations!r} has 4 partitions instead of 8")
    problem(findings["group"], f"{place.topic}-{place.partition} at 0", "1 message waiting")
    assert findings["partitioner"].status is Status.ok
    for subject in ("models", "sensors"):
        problem(findings[subject], "none is defined")


def test_a_topic_that_is_missing_stops_only_what_needs_it(
    broker: Broker, names: Names, producer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_records, "PATIENCE", 2.0)
    settings = missing_but(broker, names, names.topics.observations, names.topics.models)
    place = producer.send(settings.names.observations, key=b"anna", value=b"{}").get(30)
    findings = all_of(settings)
    problem(findings["topics"], f"The topic {settings.names.sensors!r} does not exist")
    problem(findings["models"], "none is defined")
    for subject in ("sensors", "measurements"):
        assert findings[subject].status is Status.skipped
        assert findings[subject].detail.startswith(f"there is no topic {settings.names.sensors!r}")
    assert findings["records"].status is Status.skipped
    assert f"no topic {settings.names.priors!r}" in findings["records"].detail
    assert findings["partitioner"].status is Status.ok
    problem(findings["group"], f"{place.topic}-{place.partition} at 0")


def test_what_cannot_be_looked_at_is_said_check_by_check(broker: Broker, names: Names) -> None:
    findings = all_of(settings_of(broker, names))
    problem(findings["topics"], "does not exist")
    for subject in (
        *("models", "sensors", "measurements", "sensor-health"),
        *("partitioner", "clocks", "group", "dead-letters"),
    ):
        assert findings[subject].status is Status.skipped
        assert "there is no topic" in findings[subject].detail
    nowhere = all_of(Settings(brokers=f"127.0.0.1:{free_port()}"))
    problem(nowhere["broker"], "none answers")
    subjects = (
        "topics, models, sensors, measurements, sensor-health, partitioner, clocks, group, dead-letters"
    )
    skipped = nowhere[subjects]
    assert (skipped.status, skipped.detail) == (Status.skipped, "no broker answers")
