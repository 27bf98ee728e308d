"""The doctor names sensors at fault, and says which fit corrects them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kafka import KafkaProducer

from beliefstream.streams.cli.doctor.run import Status
from beliefstream.streams.cli.doctor.sensors import examine_sensor_health
from beliefstream.streams.client import Registry
from beliefstream.streams.kafka import topics
from beliefstream.streams.settings import Settings
from tests.brokers import Broker
from tests.conftest import Names
from tests.streams.worker.test_sensor_health import RADAR, Keeping, seen
from tests.streams.workers import renamed


@pytest.fixture
def settings(broker: Broker, names: Names) -> Settings:
    """Of topics that exist, with one sensor."""
    topics.create(broker.bootstrap_servers, names.topics, partitions=2)
    with Registry(broker.bootstrap_servers, names.topics.sensors, names.topics.models) as registry:
        registry.set_sensor(RADAR)
    return Settings(brokers=broker.bootstrap_servers, topics=renamed(names.topics))


def report(settings: Settings, score: Callable[[int], float]) -> None:
    """Write the health that a worker would, after 800 reports with these scores."""
    keeping = Keeping()
    keeping.add(*(seen(offset, score=score(offset)) for offset in range(799)))
    (summary,) = keeping.add(seen(800, score=score(800))).summaries
    producer = KafkaProducer(bootstrap_servers=settings.brokers)
    producer.send(settings.names.sensor_health, key=summary.key, value=summary.value, partition=0)
    producer.close()


def test_healthy_sensors_are_counted(settings: Settings) -> None:
    assert examine_sensor_health(settings).detail == "0 sensors judged, none at fault"
    report(settings, lambda offset: (-1.0) ** offset)
    finding = examine_sensor_health(settings)
    assert (finding.status, finding.detail) == (Status.ok, "1 sensor judged, none at fault")


def test_of_an_error_that_lasts_it_proposes_the_fit(settings: Settings) -> None:
    report(settings, lambda offset: 2.5 * (-1.0) ** (offset // 40))
    finding = examine_sensor_health(settings)
    assert (finding.status, finding.detail) == (Status.problem, "lasting: radar")
    assert "then beliefstream sensors fit, which fits errors that last" in finding.remedy


def test_of_another_fault_it_proposes_the_correction(settings: Settings) -> None:
    report(settings, lambda offset: 1.5 + (-1.0) ** offset)
    finding = examine_sensor_health(settings)
    assert (finding.status, finding.detail) == (Status.problem, "biased: radar")
    assert "sensors correct SENSOR" in finding.remedy


def test_the_health_of_an_earlier_definition_does_not_count(settings: Settings, names: Names) -> None:
    report(settings, lambda offset: 1.5 + (-1.0) ** offset)
    with Registry(settings.brokers, names.topics.sensors, names.topics.models) as registry:
        registry.set_sensor(RADAR.model_copy(update={"bias": 0.5}))
    assert examine_sensor_health(settings).status is Status.ok


def test_without_its_topic_it_is_skipped(settings: Settings) -> None:
    finding = examine_sensor_health(settings, {settings.names.sensor_health})
    assert finding.status is Status.skipped
