"""From bytes to events, without a broker: what each fault of a message is called, and that nothing is changed by it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from beliefstream.schemas import (
    BearingSensor,
    ControlSensor,
    Coordinate,
    Mixture,
    Model,
    Observation,
    PositionSensor,
    RangeSensor,
    Reason,
    Reset,
    Unicycle,
    Unusable,
    parse,
)
from beliefstream.streams.definitions.observations import PlainObservation, reading_of
from beliefstream.streams.definitions.reader import Definitions, EntityModel
from beliefstream.streams.local.simulated_fleet import fleet_model, fleet_sensors
from beliefstream.streams.state.expiry import LEAST, RECENT, EventClock
from beliefstream.streams.worker.validation import ReferenceClock, Validator
from tests.schemas import kinds

NOW = 1000.0
YEAR = 365.25 * 86400
KEY = b"mower"


@pytest.fixture
def validator() -> Validator:
    definitions = Definitions("sensors", "models")
    for sensor in (
        RangeSensor(sensor="range", position=(0.0, 0.0), standard_deviation=0.5),
        PositionSensor(sensor="position", standard_deviation=1.0),
        BearingSensor(sensor="depth", coordinates=("x", "z"), position=(0.0, 0.0), standard_deviation=0.1),
    ):
        definitions.sensors[sensor.sensor] = sensor
    definitions.models["mower"] = EntityModel(fleet_model().model_copy(update={"entity": "mower"}))
    definitions.models["live"] = EntityModel(
        fleet_model().model_copy(update={"entity": "live", "live_time": True})
    )
    return Validator(definitions, maximum_bytes=10_000, future_tolerance=60.0)


def observation(**changes: Any) -> bytes:
    return json.dumps({"entity": "mower", "sensor": "range", "time": 5.0, "value": 3.0} | changes).encode()


def prior(**changes: Any) -> bytes:
    fields = {"entity": "mower", "time": 5.0, "mixture": Mixture.gaussian((0.0,) * 4, 1.0).model_dump()}
    return json.dumps(fields | changes).encode()


def reset(**changes: Any) -> bytes:
    return json.dumps({"entity": "mower", "reset": True, "time": 5.0} | changes).encode()


def test_a_sound_observation_is_an_event(validator: Validator) -> None:
    message, event = validator.observation(KEY, observation(id="one", standard_deviation=2.0), NOW)
    assert (message.id, event.entity, event.time) == ("one", "mower", 5.0)
    assert event.reading is not None
    assert event.reading.value.tolist() == [3.0]
    assert event.reading.covariance is not None
    assert np.array_equal(event.reading.covariance, [[4.0]])


def test_a_sensor_over_a_model_is_made_once(validator: Validator) -> None:
    readings = [validator.observation(KEY, observation(), NOW)[1].reading for _ in range(2)]
    assert readings[0] is not None
    assert readings[1] is not None
    assert readings[0].sensor is readings[1].sensor


def test_plain_observations_give_the_readings_that_others_do() -> None:
    definitions = Definitions("sensors", "models")
    definitions.models["*"] = EntityModel(fleet_model())
    for sensor in fleet_sensors():
        definitions.sensors[sensor.sensor] = sensor
    validator = Validator(definitions, maximum_bytes=10_000, future_tolerance=60.0)
    for sensor in fleet_sensors():
        value = [1.0, 2.0] if isinstance(sensor, PositionSensor) else 1.0
        raw = observation(entity="a", sensor=sensor.sensor, value=value)
        message, event = validator.observation(b"a", raw, NOW)
        assert isinstance(message, PlainObservation)
        expected = reading_of(parse(Observation, raw), definitions.models["*"].sensor(sensor))
        assert event.reading is not None and event.reading.content == expected.content


def test_a_changed_definition_counts_from_the_next_observation(validator: Validator) -> None:
    before = validator.observation(KEY, observation(), NOW)[1].reading
    moved = RangeSensor(sensor="range", position=(0.0, 7.0), standard_deviation=0.5)
    validator._definitions.sensors["range"] = moved
    after = validator.observation(KEY, observation(), NOW)[1].reading
    assert before is not None and after is not None
    assert (before.sensor.origin.tolist(), after.sensor.origin.tolist()) == ([0.0, 0.0], [0.0, 7.0])


@pytest.mark.parametrize(
    ("key", "value", "reason", "says"),
    [
        (KEY, None, Reason.not_json, "without a value"),
        (KEY, b"x" * 10_001, Reason.too_large, "at most 10000 bytes, got 10001"),
        (KEY, b"x" * 10_000, Reason.not_json, "message"),
        (None, observation(), Reason.key_mismatch, "mower"),
        (b"other", observation(), Reason.key_mismatch, "other"),
        (KEY, observation(sensor="sonar"), Reason.unknown_sensor, "sonar"),
        (b"cat", observation(entity="cat"), Reason.unknown_entity, "cat"),
        (KEY, observation(value=[1.0, 2.0]), Reason.wrong_length, "reports 1 number, got 2"),
        (KEY, observation(sensor="depth"), Reason.missing_coordinates, "z"),
        (b"live", observation(entity="live", time=1060.5), Reason.future, "60.5 s ahead"),
        (KEY, observation(standard_deviation=1e200), Reason.invalid_covariance, "1e+200"),
    ],
)
def test_a_fault_of_an_observation_has_its_reason(
    validator: Validator, key: bytes | None, value: bytes | None, reason: Reason, says: str
) -> None:
    with pytest.raises(Unusable) as caught:
        validator.observation(key, value, NOW)
    assert caught.value.reason == reason
    assert says in caught.value.detail


def test_a_time_ahead_of_the_clock_is_fine_within_the_tolerance_or_where_times_are_not_live(
    validator: Validator,
) -> None:
    assert validator.observation(b"live", observation(entity="live", time=1059.5), NOW)[1].time == 1059.5
    assert validator.observation(KEY, observation(time=9e9), NOW)[1].time == 9e9


@pytest.mark.parametrize("time", [1059.5, 1060.0])
def test_live_times_are_held_against_the_clock_by_default(validator: Validator, time: float) -> None:
    """The field is absent from the definition."""
    fields = json.loads(fleet_model().to_json())
    del fields["live_time"]
    validator._definitions.models["mower"] = EntityModel(Model.model_validate({**fields, "entity": "mower"}))
    assert validator.observation(KEY, observation(time=time), NOW)[1].time == time
    for read, raw in (
        (validator.observation, observation),
        (validator.prior_or_reset, prior),
        (validator.prior_or_reset, reset),
    ):
        with pytest.raises(Unusable) as caught:
            read(KEY, raw(time=NOW + 30 * YEAR), NOW)
        assert caught.value.reason == Reason.future
        assert caught.value.detail.startswith("time: 946")
        assert "9.46728e+08 s ahead of the worker's clock (1000.000)" in caught.value.detail
        assert "BELIEFSTREAM_FUTURE_TOLERANCE, 60 s" in caught.value.detail


def test_when_the_broker_stored_a_record_counts_and_not_when_it_is_read(validator: Validator) -> None:
    """So that the same log has the same dead letters whenever it is read."""
    raw = observation(entity="live", time=1100.0)
    with pytest.raises(Unusable, match="the broker's clock when it stored the record"):
        validator.observation(b"live", raw, ReferenceClock(NOW, is_stored=True))
    assert validator.observation(b"live", raw, ReferenceClock(1050.0, is_stored=True))[1].time == 1100.0


def test_a_live_time_in_another_unit_is_named_where_it_might_be_seconds(validator: Validator) -> None:
    with pytest.raises(Unusable, match="it looks like milliseconds since the epoch") as caught:
        validator.observation(b"live", observation(entity="live", time=1.6e11), NOW)
    assert caught.value.reason == Reason.future


def test_a_live_time_before_1970_is_refused_and_one_that_is_not_live_is_not(validator: Validator) -> None:
    with pytest.raises(Unusable, match=r"time: -5.0 is before 1970.*live_time: false") as caught:
        validator.observation(b"live", observation(entity="live", time=-5.0), NOW)
    assert caught.value.reason == Reason.invalid_time
    assert validator.observation(KEY, observation(time=-5.0), NOW)[1].time == -5.0


def test_without_live_time_event_time_is_the_reference_where_a_setting_asks_for_it(
    validator: Validator,
) -> None:
    replaying = Validator(validator._definitions, 10_000, 60.0, event_tolerance=3600.0)
    reference = ReferenceClock(NOW, clock=EventClock())
    for time in range(LEAST):  # not known yet: anything goes
        replaying.observation(KEY, observation(time=5e5 + time), reference)
    with pytest.raises(
        Unusable, match=r"3601 s ahead of the event time of its partition \(500004.000\)"
    ) as caught:
        replaying.observation(KEY, observation(time=5e5 + 3605.0), reference)
    assert caught.value.reason == Reason.future
    replaying.observation(KEY, observation(time=5e5 + 3604.0), reference)


def test_after_a_silence_of_all_event_time_goes_on(validator: Validator) -> None:
    """What comes first after it is refused, for it cannot be told from wrong clocks."""
    replaying = Validator(validator._definitions, 10_000, 60.0, event_tolerance=3600.0)
    reference = ReferenceClock(NOW, clock=EventClock([0.0] * RECENT))

    def taken(time: float) -> bool:
        try:
            replaying.observation(KEY, observation(time=time), reference)
        except Unusable:
            return False
        return True

    assert [taken(1e6 + number) for number in range(RECENT)].count(False) == RECENT * 3 // 4
    assert taken(1e6 + RECENT)


def test_until_event_time_is_known_what_the_entity_has_noted_of_it_counts(validator: Validator) -> None:
    replaying = Validator(validator._definitions, 10_000, 60.0, event_tolerance=3600.0)
    with pytest.raises(Unusable, match="event time"):
        replaying.observation(
            KEY, observation(time=9000.0), ReferenceClock(NOW, clock=EventClock(), known=5000.0)
        )


def test_a_reset_is_of_an_entity_that_has_a_model(validator: Validator) -> None:
    message, event = validator.prior_or_reset(KEY, reset(id="one"), NOW)
    assert (message, event) == (Reset(entity="mower", reset=True, time=5.0, id="one"), None)
    for key, raw, reason in (
        (b"cat", reset(entity="cat"), Reason.unknown_entity),
        (b"other", reset(), Reason.key_mismatch),
        (KEY, b"x" * 20_000, Reason.too_large),
    ):
        with pytest.raises(Unusable) as caught:
            validator.prior_or_reset(key, raw, NOW)
        assert caught.value.reason == reason


def test_a_model_for_all_serves_entities_without_their_own(validator: Validator) -> None:
    validator._definitions.models["*"] = EntityModel(fleet_model())
    assert validator.observation(b"cat", observation(entity="cat"), NOW)[1].entity == "cat"
    with pytest.raises(Unusable, match="future"):  # its own model still comes first
        validator.observation(b"live", observation(entity="live", time=2000.0), NOW)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (prior(mixture=Mixture.gaussian((0.0,), 1.0).model_dump()), Reason.wrong_length),
        (
            prior(mixture=Mixture.gaussian((0.0,), 1.0).model_dump(), coordinates=["z"]),
            Reason.missing_coordinates,
        ),
        (prior(entity="other"), Reason.key_mismatch),
        (observation(), Reason.invalid),
        (b"x" * 20_000, Reason.too_large),
    ],
)
def test_a_fault_of_a_prior_has_its_reason(validator: Validator, value: bytes, reason: Reason) -> None:
    with pytest.raises(Unusable) as caught:
        validator.prior_or_reset(KEY, value, NOW)
    assert caught.value.reason == reason


def test_a_prior_over_some_coordinates_knows_which(validator: Validator) -> None:
    mixture = Mixture.gaussian((1.0, 2.0), 1.0).model_dump()
    _, event = validator.prior_or_reset(
        KEY, prior(mixture=mixture, coordinates=["vy", "x"], mode="product"), NOW
    )
    assert event is not None and event.prior is not None
    assert (event.prior.axes, event.prior.mode) == ((3, 0), "product")


def test_a_model_of_fixed_steps_takes_times_on_its_raster_only(validator: Validator) -> None:
    steps = Model.model_validate({**kinds.model("steps"), "entity": "clock"})
    definitions = validator._definitions
    definitions.models["clock"] = EntityModel(steps)
    definitions.sensors["x"] = PositionSensor(sensor="x", coordinates=("x",), standard_deviation=1.0)
    late = 1_764_066_000.5
    assert (
        validator.observation(b"clock", observation(entity="clock", sensor="x", time=late), late)[1].time
        == late
    )
    with pytest.raises(Unusable) as caught:
        validator.observation(b"clock", observation(entity="clock", sensor="x", time=late + 0.1), late)
    assert caught.value.reason == Reason.invalid_time
    assert caught.value.detail == "time: 1764066000.6 is not a whole number of steps of 0.5 s from 0.0"


@pytest.fixture
def robot(validator: Validator) -> Validator:
    """With a unicycle whose speed and turn rate are inputs, and sensors of both, of one, and of another."""
    names = ("x", "y", "heading")
    model = Model(
        entity="robot",
        name="robot",
        coordinates=tuple(Coordinate(name=name, unit="m") for name in names),
        motion=Unicycle(),
        prior=Mixture.gaussian((0.0, 0.0, 0.0), 1.0),
    )
    validator._definitions.models["robot"] = EntityModel(model)
    for sensor in (
        ControlSensor(sensor="odometry", inputs=("turn_rate", "speed"), standard_deviation=(0.1, 0.2)),
        ControlSensor(sensor="gyro", inputs=("turn_rate",), standard_deviation=0.0),
        ControlSensor(sensor="accelerometer", inputs=("ax",), standard_deviation=0.1),
    ):
        validator._definitions.sensors[sensor.sensor] = sensor
    return validator


def test_a_report_of_inputs_is_a_control_of_the_motion_in_its_order(robot: Validator) -> None:
    raw = observation(entity="robot", sensor="odometry", value=[0.5, 2.0])
    event = robot.observation(b"robot", raw, NOW)[1]
    assert event.reading is None
    assert event.control is not None
    assert event.control.inputs == (1, 0)  # speed comes first in the motion
    assert event.control.value.tolist() == [0.5, 2.0]
    np.testing.assert_allclose(event.control.covariance, np.diag([0.01, 0.04]))


def test_noise_that_comes_with_a_report_of_inputs_takes_the_place_of_the_sensors(robot: Validator) -> None:
    raw = observation(entity="robot", sensor="gyro", value=0.5, standard_deviation=0.3)
    control = robot.observation(b"robot", raw, NOW)[1].control
    assert control is not None
    np.testing.assert_allclose(control.covariance, [[0.09]])
    control = robot.observation(b"robot", observation(entity="robot", sensor="gyro", value=0.5), NOW)[
        1
    ].control
    assert control is not None
    assert control.covariance.tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("changes", "reason", "says"),
    [
        ({"sensor": "accelerometer", "value": 1.0}, Reason.missing_coordinates, "takes speed, turn_rate"),
        ({"sensor": "odometry", "value": 1.0}, Reason.wrong_length, "reports 2 numbers, got 1"),
        ({"entity": "mower", "sensor": "gyro"}, Reason.missing_coordinates, "takes none"),
    ],
)
def test_a_report_of_inputs_that_the_motion_cannot_take_has_its_reason(
    robot: Validator, changes: dict[str, Any], reason: Reason, says: str
) -> None:
    raw = observation(**{"entity": "robot", **changes})
    with pytest.raises(Unusable) as caught:
        robot.observation(json.loads(raw)["entity"].encode(), raw, NOW)
    assert caught.value.reason == reason
    assert says in caught.value.detail
