"""The clock of a sensor in the metrics: where its own partitions are, and not those of others."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

from beliefstream.inference.tracking.health.columns import WIDTH
from beliefstream.inference.tracking.health.windows import Window
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.monitoring.sensor_metrics import SensorMetrics

DEFINITION = b"one"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """This machine's time, to be set."""
    seconds = [1000.0]
    monkeypatch.setattr(f"{SensorMetrics.__module__}.monotonic", lambda: seconds[0])
    return seconds


@pytest.fixture
def shown(now: list[float]) -> Iterator[SensorMetrics]:
    found = SensorMetrics()
    yield found
    found.keep_partitions(())


def window(*times: float) -> Window:
    found = Window(256.0, 1)
    found.add(np.array(times), np.zeros((len(times), 1, WIDTH)))
    return found


def clock(shown: SensorMetrics, sensor: str) -> float | None:
    shown.show()
    return metrics.REGISTRY.get_sample_value("beliefstream_sensor_clock_seconds", {"sensor": sensor})


def test_the_clock_of_a_sensor_is_that_of_its_own_partitions(shown: SensorMetrics, now: list[float]) -> None:
    shown.advance(0, 100.0)
    shown.advance(1, 900.0)  # this one is far ahead
    shown.note(0, "quiet", DEFINITION, window(98.0, 100.0))
    shown.note(1, "busy", DEFINITION, window(898.0, 900.0))
    assert clock(shown, "quiet") == 100.0
    shown.advance(0, 160.0)  # by observations of others
    assert (clock(shown, "quiet"), clock(shown, "busy")) == (160.0, 900.0)
    shown.advance(0, 150.0)  # late ones
    assert clock(shown, "quiet") == 160.0
    now[0] += 7.0
    assert clock(shown, "quiet") == 167.0


def test_of_several_partitions_the_last_one_counts(shown: SensorMetrics) -> None:
    for partition, reached in ((0, 100.0), (1, 900.0)):
        shown.advance(partition, reached)
        shown.note(partition, "shared", DEFINITION, window(reached))
    assert clock(shown, "shared") == 100.0
    shown.keep_partitions({1})
    assert clock(shown, "shared") == 900.0
    shown.keep_partitions(())
    assert clock(shown, "shared") is None


def test_a_partition_that_has_told_nothing_since_it_came_back_has_no_clock(shown: SensorMetrics) -> None:
    shown.note(0, "back", DEFINITION, window(100.0))
    assert math.isnan(clock(shown, "back") or 0.0)


def test_a_sensor_that_moves_on_before_anyone_reads_is_not_shown(shown: SensorMetrics) -> None:
    shown.note(0, "moved", DEFINITION, window(100.0))
    shown.keep_partitions(())
    assert clock(shown, "moved") is None
