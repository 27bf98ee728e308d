"""Verdicts: planted faults are found within a stated number of observations, healthy sensors raise few alarms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from beliefstream.inference.tracking.health.columns import WIDTH, Array
from beliefstream.inference.tracking.health.verdicts import (
    FALSE_ALARM_WINDOWS,
    FAULTS,
    Assessment,
    Fault,
    Verdict,
    assess,
)
from beliefstream.inference.tracking.health.windows import BLOCKS, Window
from tests.inference.tracking.health.simulated import observed

SECONDS = 3600.0
RESOLUTION = SECONDS / BLOCKS
PERIOD = RESOLUTION / 5  # five observations a block


def run(window: Window, terms: Array, start: float = 0.0, period: float = PERIOD) -> float:
    """Add observations one by one; return the time after the last."""
    for number, row in enumerate(terms):
        window.add(np.array([start + number * period]), row[None, None])
    return start + len(terms) * period


def first_alarm(window: Window, terms: Array, start: float) -> tuple[int, Assessment]:
    """Number of observations until the first verdict that is not healthy, and that verdict."""
    for number, row in enumerate(terms):
        window.add(np.array([start + number * PERIOD]), row[None, None])
        found = assess(window)
        if found.verdict != "healthy":
            return number + 1, found
    raise AssertionError("no alarm")


@pytest.mark.parametrize(
    ("verdict", "fault", "within"),
    [
        ("biased", {"bias": 0.5}, 200),
        ("biased", {"bias": -1.0}, 40),
        ("noisier", {"noise": 2.0}, 300),
        ("noisier", {"noise": 4.0}, 60),
        ("quieter", {"noise": 0.3}, 400),
        ("outliers", {"outliers": 0.3}, 120),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_a_fault_after_an_hour_of_health_is_found_soon(
    verdict: Verdict, fault: dict[str, float], within: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    window = Window(SECONDS, 1)
    began = run(window, observed(random, 1280))
    assert assess(window).verdict == "healthy"
    count, found = first_alarm(window, observed(random, 3 * within, **fault), began)
    assert (found.verdict, count <= within) == (verdict, True), count
    # its start is known to within some of the blocks before it, and no later than the alarm
    assert began - 0.2 * SECONDS <= found.channels[0].since <= began + count * PERIOD


@pytest.mark.parametrize("fault", [{"bias": 0.5}, {"noise": 2.0}, {"noise": 0.3}, {"outliers": 0.3}])
def test_errors_that_do_not_last_are_not_called_so(fault: dict[str, float]) -> None:
    for seed in range(10):
        window = Window(SECONDS, 1)
        run(window, observed(np.random.default_rng(seed), 1200, **fault))
        assert assess(window).verdict in ("biased", "noisier", "quieter", "outliers")


def test_errors_that_come_and_go_last() -> None:
    random = np.random.default_rng(5)
    window, began = Window(SECONDS, 1), 0.0
    for bias in random.normal(size=60):
        began = run(window, observed(random, 20, bias=float(bias)), began)
    assert assess(window).verdict == "lasting"


def test_the_estimates_of_a_fault_are_right_within_their_deviation() -> None:
    random = np.random.default_rng(4)
    window = Window(SECONDS, 1)
    run(window, observed(random, 1500, bias=0.4))
    (channel,) = assess(window).channels
    assert abs(channel.bias - 0.4) < 4 * channel.bias_deviation < 0.2
    assert channel.noise_scale == pytest.approx(1.0, abs=0.15)
    window = Window(SECONDS, 1)
    run(window, observed(random, 1500, noise=2.0))
    (channel,) = assess(window).channels
    assert channel.noise_scale == pytest.approx(1.9, abs=0.25)  # the farthest count as outliers in part
    assert channel.excess < -0.1
    window = Window(SECONDS, 1)
    run(window, observed(random, 1500, outliers=0.2))
    assert assess(window).channels[0].outlier_share == pytest.approx(0.2, abs=0.04)


def test_a_wrong_scale_shows_as_gain() -> None:
    random = np.random.default_rng(8)
    window = Window(SECONDS, 1)
    run(window, observed(random, 1500, gain=1.01))
    found = assess(window)
    assert found.verdict == "biased"
    assert found.channels[0].gain == pytest.approx(1.01, abs=0.003)


@pytest.mark.parametrize("change", [{"bias": 0.1}, {"noise": 1.15}, {"noise": 0.85}, {"outliers": 0.08}])
def test_what_is_tolerated_stays_healthy_for_five_windows(change: dict[str, float]) -> None:
    window = Window(SECONDS, 1)
    random, began = np.random.default_rng(6), 0.0
    for _ in range(20):
        began = run(window, observed(random, 320, **change), began)
        assert assess(window).verdict == "healthy"


def test_healthy_sensors_alarm_no_more_often_than_stated_even_at_a_low_threshold() -> None:
    """The sum of e-processes of ``n`` blocks exceeds ``c`` at any time with probability ``n / c`` at most."""
    blocks, sensors = 30, 200
    alarms: dict[Fault, int] = dict.fromkeys(FAULTS, 0)
    level = math.log(10 * blocks)
    for seed in range(sensors):
        window, random = Window(SECONDS, 1), np.random.default_rng(1000 + seed)
        terms, alarmed = observed(random, 5 * blocks), set[Fault]()
        for block in range(blocks):
            times = np.array([(block + (number + 0.5) / 5) * RESOLUTION for number in range(5)])
            window.add(times, terms[5 * block : 5 * block + 5, None])
            evidence = assess(window).channels[0].evidence
            alarmed |= {fault for fault in FAULTS if evidence[fault] >= level}
        for fault in alarmed:
            alarms[fault] += 1
    # 10 % of the sensors are allowed for each fault; four deviations above
    most = 0.1 * sensors + 4 * math.sqrt(0.09 * sensors)
    assert all(count <= most for count in alarms.values()), alarms


@pytest.mark.soak
def test_four_healthy_sensors_raise_no_alarm_in_a_month() -> None:
    month = 30 * 24
    assert 4 * month < FALSE_ALARM_WINDOWS  # less than one false alarm is expected
    for seed in range(4):
        window, random = Window(SECONDS, 1), np.random.default_rng(seed)
        for hour in range(month):
            terms = observed(random, BLOCKS)
            for part in range(8):
                first = hour * SECONDS + part * 32 * RESOLUTION
                times = np.array([first + (number + 0.5) * RESOLUTION for number in range(32)])
                window.add(times, terms[part * 32 : part * 32 + 32, None])
                assert assess(window).verdict == "healthy"


def test_a_sensor_is_silent_after_many_of_its_intervals_and_thrice_its_longest_gap() -> None:
    random = np.random.default_rng(7)
    window = Window(SECONDS, 1)
    ended = run(window, observed(random, 500), period=10.0) - 10.0
    assert assess(window).verdict == "healthy"
    # log of 4096 windows of 256 blocks: 13.9 mean intervals
    for silence, verdict in ((135.0, "healthy"), (160.0, "silent")):
        assert assess(window, ended + silence).verdict == verdict
    assert assess(window, ended + 160.0).silence == 160.0
    window.add(np.array([ended + 130.0]), observed(random, 1)[None])
    assert assess(window, ended + 130.0 + 350.0).verdict == "healthy"
    assert assess(window, ended + 130.0 + 410.0).verdict == "silent"


def test_without_a_judged_observation_nothing_is_known() -> None:
    assert assess(Window(SECONDS, 1)).verdict == "unknown"
    unjudged = np.zeros((20, WIDTH))
    window = Window(SECONDS, 1)
    run(window, unjudged)
    found = assess(window, 1e9)
    assert found.verdict == "unknown"
    assert math.isnan(found.channels[0].bias)
