from __future__ import annotations

import math

import pytest

from beliefstream.streams.cli.services.metrics_scraper import WINDOW, MetricsHistory
from beliefstream.streams.monitoring.scraping import Snapshot

SECONDS = "beliefstream_end_to_end_seconds"
BATCHES = "beliefstream_batch_size_count"


def snapshot(time: float, batches: float, buckets: dict[str, float]) -> Snapshot:
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {(BATCHES, ()): batches}
    values |= {(f"{SECONDS}_bucket", (("le", bound),)): count for bound, count in buckets.items()}
    return Snapshot(time, values)


def test_rates_and_quantiles_are_of_the_window() -> None:
    history = MetricsHistory()
    history.add(snapshot(0.0, 10, {"0.1": 100, "0.2": 100, "+Inf": 100}))
    history.add(snapshot(4.0, 30, {"0.1": 100, "0.2": 110, "+Inf": 110}))
    assert history.rate(BATCHES) == 5.0
    assert history.quantile(SECONDS, 0.5) == pytest.approx(0.15)


def test_what_is_older_than_the_window_is_forgotten() -> None:
    history = MetricsHistory()
    for time in (0.0, WINDOW, WINDOW + 5):
        history.add(snapshot(time, time, {}))
    assert [each.time for each in history.snapshots] == [WINDOW, WINDOW + 5]


def test_a_worker_that_was_started_again_begins_anew() -> None:
    history = MetricsHistory()
    history.add(snapshot(0.0, 10, {}))
    history.add(snapshot(1.0, 2, {}))
    assert len(history.snapshots) == 1
    assert math.isnan(history.rate(BATCHES))


def test_nothing_observed_has_no_quantile_and_no_mean() -> None:
    history = MetricsHistory()
    assert math.isnan(history.quantile(SECONDS, 0.5))
    history.add(snapshot(0.0, 10, {"0.1": 5, "+Inf": 5}))
    history.add(snapshot(1.0, 11, {"0.1": 5, "+Inf": 5}))
    assert math.isnan(history.quantile(SECONDS, 0.5))
    assert math.isnan(history.mean(SECONDS))
