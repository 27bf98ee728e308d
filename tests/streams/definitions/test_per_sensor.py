"""What is made from a definition is made once, and is dropped some time after the definition."""

from __future__ import annotations

from aiokafka import ConsumerRecord

from beliefstream.schemas import PositionSensor, RangeSensor, Sensor
from beliefstream.streams.definitions.reader import Definitions, PerSensor
from beliefstream.streams.local.simulated_fleet import fleet_model

RADAR = RangeSensor(sensor="radar", position=(0.0, 0.0), standard_deviation=0.5)


def gps(number: int) -> PositionSensor:
    return PositionSensor(sensor=f"gps-{number}", standard_deviation=1.0)


def put(definitions: Definitions, sensor: str, value: bytes | None) -> None:
    definitions.apply(ConsumerRecord("sensors", 0, 0, 0, 0, sensor.encode(), value, None, 0, 0, ()))


def test_it_is_made_once_for_a_definition_and_again_for_the_next_one() -> None:
    asked: list[Sensor] = []

    def make(definition: Sensor) -> int:
        asked.append(definition)
        return len(asked)

    kept, changed = PerSensor(make, {"radar": RADAR}), RADAR.model_copy()
    assert [kept.of(each) for each in (RADAR, RADAR, changed, changed)] == [1, 1, 2, 2]


def test_that_of_removed_sensors_is_dropped_and_that_of_others_stays() -> None:
    asked: list[str] = []
    defined: dict[str, Sensor] = {"radar": RADAR}
    kept = PerSensor(lambda definition: asked.append(definition.sensor), defined)
    kept.of(RADAR)
    for number in range(100):
        definition = defined[f"gps-{number}"] = gps(number)
        kept.of(definition)
        assert len(kept) <= 4
        del defined[f"gps-{number}"]
    kept.of(RADAR)
    assert asked.count("radar") == 1


def test_nothing_is_dropped_without_definitions_to_compare_with() -> None:
    kept = PerSensor(lambda definition: definition.sensor, None)
    for number in range(100):
        kept.of(gps(number))
    assert len(kept) == 100


def test_a_model_drops_what_it_built_for_removed_sensors() -> None:
    definitions = Definitions("sensors", "models")
    model = fleet_model()
    definitions.apply(
        ConsumerRecord("models", 0, 0, 0, 0, model.entity.encode(), model.to_json(), None, 0, 0, ())
    )
    built = definitions.models[model.entity]
    for number in range(100):
        put(definitions, f"gps-{number}", gps(number).to_json())
        built.sensor(definitions.sensors[f"gps-{number}"])
        put(definitions, f"gps-{number}", None)
    assert len(built._sensors) <= 2


def test_removals_of_defined_sensors_are_counted() -> None:
    definitions = Definitions("sensors", "models")
    put(definitions, "radar", None)
    assert definitions.removals == 0
    put(definitions, "radar", RADAR.to_json())
    put(definitions, "radar", None)
    put(definitions, "radar", None)
    assert definitions.removals == 1
