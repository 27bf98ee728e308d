"""Rates of a worker by its own count."""

from __future__ import annotations

import pytest

from research.bench.end_to_end.stream import rate_between


def test_the_rate_is_that_between_the_first_and_the_last_count() -> None:
    assert rate_between([(10.0, 100.0), (11.0, 150.0), (12.0, 500.0)]) == 200.0


def test_a_single_count_is_no_rate() -> None:
    with pytest.raises(RuntimeError, match="too few observations"):
        rate_between([(10.0, 100.0)])
