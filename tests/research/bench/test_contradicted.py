"""Observations of a fleet that is elsewhere at once are all processed, and both parts are timed."""

from __future__ import annotations

import pytest

from research.bench.contradicted import measure_contradicted
from research.bench.fleet_cost import make_updater


def test_both_parts_are_timed() -> None:
    found = measure_contradicted(make_updater(), entities=3, reports=4)
    assert found.usual > 0
    assert found.contradicted > 0
    assert found.as_dict()["share"] == pytest.approx(found.contradicted / found.usual)
