"""Odometry as control, in any order, as a worker does it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings, strategies as st

from beliefstream.schemas import Observation, Posterior, parse
from research.bench.late_observations import OfflineTable
from tests.streams.odometry import MODEL, ODOMETRY, SENSORS, drive
from tests.streams.oracle import check_ends, delayed, distance, expected, updater

DOUBLE = 1e-6
SEEN, _ = drive("robot")


def ranges(observations: list[Observation]) -> list[Observation]:
    return [seen for seen in observations if seen.sensor != ODOMETRY.sensor]


def posteriors(table: OfflineTable, batch: list[Observation]) -> list[Posterior]:
    return [parse(Posterior, record.value) for record in table.apply(batch)[0]]


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.sets(st.integers(1, len(SEEN) - 1)))
def test_controls_and_ranges_in_any_order_within_the_window_end_as_the_replay_does(
    seed: int, cuts: set[int]
) -> None:
    table = OfflineTable(MODEL, SENSORS, updater())
    arriving = delayed(SEEN, 1.9, seed)
    places = [0, *sorted(cuts), len(arriving)]
    found = [each for start, end in pairwise(places) for each in posteriors(table, arriving[start:end])]
    outcomes = expected(MODEL, SENSORS, SEEN)
    assert len(outcomes["robot"]) == len(ranges(SEEN))
    check_ends({"robot": found}, outcomes, DOUBLE, ranges(SEEN))


def test_a_control_alone_has_no_posterior_and_a_late_one_has_the_newest_sent_again() -> None:
    table = OfflineTable(MODEL, SENSORS, updater())
    early = [seen for seen in SEEN if seen.time <= 2.0]
    late = next(seen for seen in early if seen.time == 1.0 and seen.sensor == ODOMETRY.sensor)
    rest = [seen for seen in early if seen is not late]
    first = posteriors(table, rest)
    assert [each.time for each in first] == [seen.time for seen in ranges(early)]
    again = posteriors(table, [late])
    assert [(each.time, each.revision, each.applied) for each in again] == [(first[-1].time, 1, ())]
    assert again[0].sequence == len(early)
    outcomes = expected(MODEL, SENSORS, early)["robot"]
    assert distance(again[0].mixture, outcomes[-1]) < DOUBLE
    newer = Observation(entity="robot", sensor=ODOMETRY.sensor, time=2.1, value=(1.0, 0.0))
    assert posteriors(table, [newer]) == []


def test_a_range_older_than_the_newest_control_is_not_a_revision() -> None:
    table = OfflineTable(MODEL, SENSORS, updater())
    last = ranges(SEEN)[3]
    ahead = [seen for seen in SEEN if seen.time <= last.time + 0.5 and seen.sensor == ODOMETRY.sensor]
    earlier = [seen for seen in ranges(SEEN) if seen.time < last.time]
    posteriors(table, [*ahead, *earlier])
    found = posteriors(table, [last])
    assert [(each.time, each.revision, each.applied) for each in found] == [(last.time, 0, (last.id,))]


def test_a_calibrated_sensor_says_what_a_right_one_says() -> None:
    early = [seen for seen in SEEN if seen.time <= 3.0]
    scale, bias = (1.25, -2.0), (0.3, 0.05)
    calibrated = ODOMETRY.model_copy(
        update={
            "scale": scale,
            "bias": bias,
            "standard_deviation": None,
            "covariance": [
                [each * a * b for each, b in zip(row, scale, strict=True)]
                for row, a in zip(ODOMETRY.noise_covariance, scale, strict=True)
            ],
        }
    )

    def distorted(seen: Observation) -> Observation:
        if seen.sensor != ODOMETRY.sensor:
            return seen
        assert isinstance(seen.value, tuple)
        value = tuple(s * v + b for s, v, b in zip(scale, seen.value, bias, strict=True))
        return seen.model_copy(update={"value": value})

    others = tuple(sensor for sensor in SENSORS if sensor.sensor != ODOMETRY.sensor)
    table = OfflineTable(MODEL, (*others, calibrated), updater())
    found = posteriors(table, [distorted(seen) for seen in early])
    outcomes = expected(MODEL, SENSORS, early)["robot"]
    assert distance(found[-1].mixture, outcomes[-1]) < DOUBLE
