"""Histograms that take many values at once count as those of prometheus_client do."""

from __future__ import annotations

import math

from hypothesis import given, strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from beliefstream.streams.monitoring.metrics import BulkHistogram

BUCKETS = (0.001, 0.5, 1.0, 3.0)
values = st.one_of(st.sampled_from([*BUCKETS, 0.0, -1.0, math.inf]), st.floats(-10, 10))


@given(st.lists(st.lists(values, max_size=20), max_size=4))
def test_it_shows_what_a_histogram_of_prometheus_client_shows(batches: list[list[float]]) -> None:
    bulk, single = CollectorRegistry(), CollectorRegistry()
    ours = BulkHistogram("age_seconds", "Age", BUCKETS, bulk)
    theirs = Histogram("age_seconds", "Age", buckets=BUCKETS, registry=single)
    for batch in batches:
        ours.observe(batch)
        for value in batch:
            theirs.observe(value)
    assert counts(bulk) == counts(single)
    assert math.isclose(total(bulk), total(single), abs_tol=1e-9)


def counts(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line and not line.startswith("age_seconds_sum")]


def total(registry: CollectorRegistry) -> float:
    found = registry.get_sample_value("age_seconds_sum")
    assert found is not None
    return found


def test_a_value_that_is_no_number_is_left_out() -> None:
    registry = CollectorRegistry()
    BulkHistogram("age_seconds", "Age", BUCKETS, registry).observe([math.nan, 0.5])
    assert registry.get_sample_value("age_seconds_count") == 1
    assert registry.get_sample_value("age_seconds_sum") == 0.5
