"""Every reader: sorted, complete, within the truth, with settings that are what its own fit gives."""

from __future__ import annotations

import dataclasses
import importlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beliefstream.inference.likelihood.noise import Array
from beliefstream.schemas import ControlSensor
from beliefstream.streams.demo.plaza import RecordingUnavailable
from beliefstream.streams.scores.recording import Recording
from research.recordings.parts import DATA_VARIABLE
from research.recordings.readers import READERS, read
from research.recordings.tuning import rounded

ENTRIES = {  # observations and entities
    "uwb_planar": (6477, 1),
    "mrclam_robot1": (4176, 1),
    "ble_rssi": (2242, 1),
    "ble_straight": (1365, 1),
    "laser_radar": (1000, 1),
    "ais_solent": (47846, 91),
}
MODULES = {"plaza1": "plaza", "plaza2": "plaza", "mrclam_robot1": "mrclam"} | {
    name: name for name in ("uwb_planar", "ble_rssi", "laser_radar", "ais_solent")
}


def recorded(name: str, request: pytest.FixtureRequest, **options: Any) -> Recording:
    if name.startswith("plaza"):
        pytest.importorskip("gtsam", reason="the files come with the package gtsam")
        return read(name, **options)
    return read(name, data=request.getfixturevalue("data"), **options)


def settings_of(name: str) -> Any:
    """As the reader has them, by default."""
    module = importlib.import_module(f"research.recordings.{MODULES[name]}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__name__.endswith("Settings")
    ]
    assert len(found) == (2 if MODULES[name] == "plaza" else 1)
    return found[-1 if name == "plaza2" else 0]()


@pytest.mark.parametrize("name", ENTRIES)
def test_nothing_is_missing_and_all_of_it_is_in_order(name: str, request: pytest.FixtureRequest) -> None:
    recording = recorded(name, request)
    times = [observation.time for observation in recording.observations]
    assert times == sorted(times)
    assert (len(times), len(recording.models)) == ENTRIES[name]
    assert {o.entity for o in recording.observations} == {model.entity for model in recording.models}
    assert {o.sensor for o in recording.observations} <= {sensor.sensor for sensor in recording.sensors}
    if recording.has_truth:
        assert (np.diff(recording.truth_times) >= 0).all()
        if READERS[name].settings_of is None:
            assert times[0] < recording.scored_from < recording.truth_times[-1]
        else:
            assert recording.scored_from < times[0]


@pytest.mark.parametrize("name", ["uwb_planar", "mrclam_robot1"])
def test_the_prior_is_centred_where_the_truth_starts(name: str, request: pytest.FixtureRequest) -> None:
    recording = recorded(name, request)
    start = np.array(recording.model.prior.mean())[:2]
    assert start == pytest.approx(recording.truth_at(recording.observations[0].time)[0], abs=1e-6)


@pytest.mark.parametrize("name", [*MODULES])
def test_what_the_truth_shows_is_what_was_chosen(name: str, request: pytest.FixtureRequest) -> None:
    recorded(name, request)  # or skip
    data = None if name.startswith("plaza") else request.getfixturevalue("data")
    reader, chosen = READERS[name], settings_of(name)
    fitted = rounded(reader.fit(data))
    for field in dataclasses.fields(chosen):
        if field.name not in reader.searched:
            assert getattr(fitted, field.name) == getattr(chosen, field.name), field.name


def test_ships_report_from_the_solent_and_slow_ones_no_course(request: pytest.FixtureRequest) -> None:
    recording = recorded("ais_solent", request)
    counts = Counter(observation.sensor for observation in recording.observations)
    assert counts["ais/place"] == counts["ais/speed"] > counts["ais/course"] > 9000
    places = np.array([o.values for o in recording.observations if o.sensor == "ais/place"])
    assert (np.abs(places - (50.75, -1.25)) < 0.7).all()
    keys = [(o.entity, o.time, o.sensor, o.value) for o in recording.observations]
    assert len(set(keys)) == len(keys)
    courses = {
        (o.entity, o.time): o.standard_deviation for o in recording.observations if o.sensor == "ais/course"
    }
    speeds = {(o.entity, o.time): o.values[0] for o in recording.observations if o.sensor == "ais/speed"}
    assert min(speeds[key] for key in courses) >= 0.5


def test_the_robot_sees_landmarks_only_and_its_wheels_add_up(request: pytest.FixtureRequest) -> None:
    recording = recorded("mrclam_robot1", request)
    (wheels,) = (sensor for sensor in recording.sensors if isinstance(sensor, ControlSensor))
    assert wheels.inputs == ("speed", "turn_rate")
    rows = [(o.time, *o.values) for o in recording.observations if o.sensor == wheels.sensor]
    held: Array = np.array(rows)
    travelled = float((held[:-1, 1] * np.diff(held[:, 0])).sum())
    steps = recording.truth_at(np.arange(0.0, held[-1, 0], 0.5))
    assert travelled == pytest.approx(float(np.linalg.norm(np.diff(steps, axis=0), axis=1).sum()), rel=0.1)


def test_without_data_the_error_says_how_to_name_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    with pytest.raises(
        RecordingUnavailable, match=r"laser_radar: give the folder .* by --data or BELIEFSTREAM_DATA"
    ):
        read("laser_radar")
    with pytest.raises(RecordingUnavailable, match=f"laser_radar: {tmp_path}.* does not exist"):
        read("laser_radar", data=tmp_path)
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path))
    with pytest.raises(RecordingUnavailable, match=str(tmp_path)):
        read("ais_solent")


def test_a_recording_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"uwb_planar.*'plaza3'"):
        read("plaza3")
