from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from beliefstream.schemas import Coordinate, Model, PositionSensor, RandomWalk, RangeSensor, cloudevents
from beliefstream.streams.client import DefinitionConflict, Registry
from beliefstream.streams.kafka.topics import TopicNames, create
from tests.brokers import Broker, EmbeddedNode
from tests.conftest import Names
from tests.streams.client.topics import PLANE, records


def test_sensors_and_models_are_set_replaced_and_removed(broker: Broker, topics: TopicNames) -> None:
    beacon = RangeSensor(sensor="beacon", position=(1.0, 2.0), standard_deviation=0.3)
    gps = PositionSensor(sensor="gps", standard_deviation=2.0)
    everyone = model("*")
    with Registry(broker.bootstrap_servers, topics.sensors, topics.models) as registry:
        assert (registry.sensors(), registry.models()) == ({}, {})
        for sensor in (gps, beacon, better := gps.model_copy(update={"standard_deviation": 1.0})):
            registry.set_sensor(sensor)
        registry.set_model(everyone)
        registry.set_model(model("mower"))
        assert registry.sensors() == {"beacon": beacon, "gps": better}
        assert registry.models() == {"*": everyone, "mower": model("mower")}
        registry.remove_sensor("beacon")
        registry.remove_sensor("never there")
        registry.remove_model("mower")
        assert registry.sensors() == {"gps": better}
        assert registry.models() == {"*": everyone}


def test_what_is_there_and_differs_is_never_replaced_by_define(
    embedded_broker: EmbeddedNode, names: Names
) -> None:
    create(embedded_broker.bootstrap_servers, names.topics, partitions=1)
    gps = PositionSensor(sensor="gps", standard_deviation=2.0)
    changed = gps.model_copy(update={"standard_deviation": 1.0})
    other = PositionSensor(sensor="other", standard_deviation=2.0)
    with Registry(embedded_broker.bootstrap_servers, names.topics.sensors, names.topics.models) as registry:
        registry.define([gps], [model("*")])
        registry.define([gps, other], [model("*")])
        for sensors, models, conflicts in (
            ([changed], [model("*")], ("sensor 'gps'",)),
            ([other], [model("*").model_copy(update={"version": 2})], ("model of '*'",)),
            ([changed], [model("*").model_copy(update={"version": 2})], ("sensor 'gps'", "model of '*'")),
        ):
            new = PositionSensor(sensor="new", standard_deviation=1.0)
            with pytest.raises(DefinitionConflict) as caught:
                registry.define([new, *sensors], [model("mower"), *models])
            assert caught.value.names == conflicts
        assert registry.sensors() == {"gps": gps, "other": other}
        assert registry.models() == {"*": model("*")}
        registry.remove_sensor("gps")
        registry.define([changed])
        assert registry.sensors()["gps"] == changed


def test_definitions_carry_key_and_headers(broker: Broker, topics: TopicNames) -> None:
    with Registry(broker.bootstrap_servers, topics.sensors, topics.models) as registry:
        registry.set_model(model("*"))
        registry.remove_model("*")
    definition, removal = records(broker, topics.models, 2)
    assert (definition.key, removal.key, removal.value) == (b"*", b"*", None)
    assert cloudevents.parse(definition.headers)["type"] == cloudevents.MODEL


def test_all_definitions_are_read_whatever_end_the_broker_reports(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    for number in range(100):  # one batch, within which the embedded broker reports the end
        sensor = PositionSensor(sensor=f"gps-{number}", standard_deviation=1.0)
        raw.send(topics.sensors, key=sensor.sensor.encode(), value=sensor.to_json())
    raw.flush()
    registry = Registry(broker.bootstrap_servers, topics.sensors, topics.models)
    assert len(registry.sensors()) == 100


def test_a_bad_definition_leaves_the_old_one_in_force(broker: Broker, topics: TopicNames, raw: Any) -> None:
    gps = PositionSensor(sensor="gps", standard_deviation=2.0)
    with Registry(broker.bootstrap_servers, topics.sensors, topics.models) as registry:
        registry.set_sensor(gps)
        raw.send(topics.sensors, key=b"gps", value=b'{"kind":"position","sensor":"gps"}')
        raw.send(topics.sensors, key=b"other", value=gps.to_json())
        raw.flush()
        with capture_logs() as logs:
            assert registry.sensors() == {"gps": gps}
    assert len(logs) == 2


def model(entity: str) -> Model:
    return Model(
        entity=entity,
        name="planar",
        coordinates=(Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
        motion=RandomWalk(spectral_density=0.1),
        prior=PLANE,
    )
