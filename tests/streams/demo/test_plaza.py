"""The Plaza recording, read from the package that carries it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from beliefstream.schemas import RangeSensor
from beliefstream.streams.demo.plaza import RecordingUnavailable, plaza
from beliefstream.streams.scores.recording import Recording

pytest.importorskip("gtsam", reason="the files come with the package gtsam")


@pytest.fixture(scope="module")
def mower() -> Recording:
    return plaza()


def distances(recording: Recording) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Every reported range, by its sensor's calibration, and the true distance, (N,) each."""
    beacons = {sensor.sensor: cast(RangeSensor, sensor) for sensor in recording.sensors}
    seen_by = [beacons[observation.sensor] for observation in recording.observations]
    reported = np.array([observation.values[0] for observation in recording.observations])
    calibrated = (reported - [beacon.bias for beacon in seen_by]) / [beacon.scale for beacon in seen_by]
    places = recording.truth_at([observation.time for observation in recording.observations])
    return calibrated, np.linalg.norm(places - [beacon.position for beacon in seen_by], axis=1)


def test_the_mower_has_all_its_ranges_and_beacons(mower: Recording) -> None:
    assert len(mower.observations) == 3529
    assert len(mower.sensors) == 4
    assert {observation.sensor for observation in mower.observations} == {s.sensor for s in mower.sensors}
    assert {observation.entity for observation in mower.observations} == {mower.model.entity} == {"mower"}


def test_rows_that_jump_back_in_time_are_sorted(mower: Recording) -> None:
    times = [observation.time for observation in mower.observations]
    assert times == sorted(times)
    assert mower.truth_times[0] <= times[0] < times[-1] <= mower.truth_times[-1]


@pytest.mark.parametrize("which", ["plaza1", "plaza2"])
def test_the_calibration_explains_the_ranges(which: Any) -> None:
    calibrated, true = distances(plaza(which))
    error = calibrated - true
    assert abs(error.mean()) < 0.05
    assert error.std() == pytest.approx(0.5366 / 1.069, rel=0.05)
    assert np.abs(error).max() < 2


def test_the_prior_is_centred_where_the_mower_starts(mower: Recording) -> None:
    start = mower.truth_at(mower.observations[0].time)[0]
    assert mower.model.prior.mean() == pytest.approx([*start, 0, 0])
    assert mower.model.prior.standard_deviations() == pytest.approx([2, 2, 1, 1])


def test_observations_and_truth_are_shifted_alike(mower: Recording) -> None:
    shifted = mower.shifted(1.7e9)
    assert shifted.observations[0].time == mower.observations[0].time + 1.7e9
    assert shifted.observations[9].value == mower.observations[9].value
    assert shifted.truth_at(1.7e9 + 4000.0) == pytest.approx(mower.truth_at(4000.0), abs=1e-5)


def test_the_entity_is_called_as_wanted() -> None:
    recording = plaza("plaza2", entity="robot-7")
    assert recording.model.entity == recording.observations[0].entity == "robot-7"


def test_truth_is_linear_between_recorded_places(mower: Recording) -> None:
    middle = (mower.truth_times[500] + mower.truth_times[501]) / 2
    expected = (mower.truth[500] + mower.truth[501]) / 2
    assert mower.truth_at([middle, mower.truth_times[7]]) == pytest.approx(
        np.stack([expected, mower.truth[7]])
    )


@pytest.mark.parametrize("time", [0.0, 1e6, float("nan")])
def test_truth_outside_the_recording_is_refused(mower: Recording, time: float) -> None:
    with pytest.raises(ValueError, match=f"time {time} is outside the truth of plaza1"):
        mower.truth_at([4000.0, time])


def test_another_recording_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'plaza3'"):
        plaza(cast(Any, "plaza3"))


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "gtsam", raising=False)
    with pytest.raises(RecordingUnavailable, match=r"pip install 'beliefstream\[demo\]' \(gtsam is not"):
        plaza()


def test_a_package_without_the_files_is_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "gtsam").mkdir()
    (tmp_path / "gtsam" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "gtsam", raising=False)
    with pytest.raises(RecordingUnavailable, match=r"this version of gtsam lacks Plaza1_\.mat"):
        plaza()
