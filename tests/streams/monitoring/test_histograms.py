"""Histograms take many values at once."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Histogram

from beliefstream.streams.monitoring.metrics import observe_all


def test_a_value_that_is_no_number_is_left_out() -> None:
    registry = CollectorRegistry()
    observe_all(Histogram("age_seconds", "Age", registry=registry), [math.nan, 0.5, 1.5])
    assert registry.get_sample_value("age_seconds_count") == 2
    assert registry.get_sample_value("age_seconds_sum") == 2.0
