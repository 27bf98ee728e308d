"""Controls hold until the next; reports are predicted, truths compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from beliefstream.inference.motion import Control
from beliefstream.schemas import (
    ConstantVelocity,
    ControlSensor,
    Coordinate,
    Mixture,
    Model,
    Observation,
    PositionSensor,
    Unicycle,
)
from beliefstream.streams.scores.recording import Recording
from beliefstream.streams.scores.tracks import Controls, controls_of, log_of, tracks_of
from research.recordings.parts import limited


def report(value: float) -> Control:
    return Control(torch.tensor([[value]], dtype=torch.float64), torch.zeros(1, 1, 1, dtype=torch.float64))


def test_each_control_holds_until_the_next_and_before_the_first_there_is_none() -> None:
    controls = Controls([1.0, 2.0, 4.0], [report(10.0), report(20.0), report(30.0)])
    pieces = [(i, None if c is None else float(c.value)) for i, c in controls.between(0.5, 4.5)]
    assert pieces == [(0.5, None), (1.0, 10.0), (2.0, 20.0), (0.5, 30.0)]
    assert [(i, float(c.value)) for i, c in controls.between(2.0, 3.0) if c] == [(1.0, 20.0)]
    assert list(controls.between(3.0, 3.0)) == []
    assert list(Controls([], []).between(1.0, 3.0)) == [(2.0, None)]


@given(st.lists(st.floats(0, 100), max_size=8), st.floats(0, 100), st.floats(0, 100))
def test_the_pieces_of_an_interval_make_it_up(times: list[float], one: float, other: float) -> None:
    start, end = sorted((one, other))
    ordered = sorted(times)
    pieces = list(Controls(ordered, [report(time) for time in ordered]).between(start, end))
    assert sum(interval for interval, _ in pieces) == pytest.approx(end - start)
    assert all(interval > 0 for interval, _ in pieces)


def walker(observations: list[Observation], **options: object) -> Recording:
    names = ("x", "y", "vx", "vy")
    model = Model(
        entity="a",
        name="walker",
        coordinates=tuple(Coordinate(name=name, unit="m") for name in names),
        motion=ConstantVelocity(positions=("x", "y"), velocities=("vx", "vy"), spectral_density=0.1),
        prior=Mixture.gaussian((1.0, 2.0, 0.0, 0.0), (1.0, 1.0, 0.5, 0.5)),
    )
    place = PositionSensor(sensor="place", standard_deviation=0.5, scale=2.0, bias=1.0)
    other = PositionSensor(sensor="turned", coordinates=("y", "x"), standard_deviation=0.5)
    return Recording("walk", model, (place, other), observations, ("x", "y"), **options)  # type: ignore[arg-type]


def seen(time: float, sensor: str = "place") -> Observation:
    return Observation(entity="a", sensor=sensor, time=time, value=(3.0 + time, 5.0))


def test_without_a_truth_each_next_report_of_the_coordinates_is_predicted() -> None:
    recording = walker([seen(0.0), seen(1.0), seen(2.0, "turned"), seen(3.0)], scored_from=0.5)
    (track,) = tracks_of(recording, log_of(recording))
    assert sorted(track.cases) == [1, 3]  # not the first, nor one of other coordinates
    case = track.cases[3]
    assert case.target.tolist() == [[2.5, 2.0]]  # (6 - 1) / 2, (5 - 1) / 2
    assert case.noise is not None and case.noise.tolist() == [[[0.0625, 0.0], [0.0, 0.0625]]]


def test_with_a_truth_beliefs_from_the_scored_part_on_are_compared() -> None:
    times = np.array([0.0, 2.0])
    truth = np.array([[0.0, 0.0], [4.0, 2.0]])
    recording = walker(
        [seen(t) for t in (0.0, 1.0, 1.5, 9.0)], truth_times=times, truth=truth, scored_from=0.5
    )
    (track,) = tracks_of(recording, log_of(recording))
    assert {number: case.target.tolist() for number, case in track.cases.items()} == {
        1: [[2.0, 1.0]],
        2: [[3.0, 1.5]],
    }


def test_the_inputs_of_a_motion_are_taken_in_its_order() -> None:
    wheels = ControlSensor(sensor="wheels", inputs=("turn_rate", "speed"), standard_deviation=(0.1, 0.2))
    model = Model(
        entity="r",
        name="robot",
        coordinates=tuple(Coordinate(name=name, unit="m") for name in ("x", "y", "heading")),
        motion=Unicycle(),
        prior=Mixture.gaussian((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    )
    told = Observation(entity="r", sensor="wheels", time=1.0, value=(0.3, 2.0))
    (timeline,) = log_of(Recording("drive", model, (wheels,), [told], ("x", "y"))).timelines().values()
    controls = controls_of(timeline, 2)
    assert controls.times == [1.0]
    assert controls.reports[0].value.tolist() == [[2.0, 0.3]]  # speed, turn rate
    assert controls.reports[0].covariance.flatten().tolist() == pytest.approx([0.04, 0.0, 0.0, 0.01])


def test_a_limit_keeps_the_part_for_choosing_and_a_share_of_the_scored() -> None:
    recording = walker([seen(float(t)) for t in range(31)], scored_from=10.0)
    assert [o.time for o in limited(recording, 0.5).observations] == [float(t) for t in range(21)]
    assert len(limited(recording, 1.0).observations) == 31
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="limit"):
            limited(recording, share)
