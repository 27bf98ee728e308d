"""Latency: from an observation's record to that of the posterior which has it."""

from __future__ import annotations

import pytest

from beliefstream.streams.live import beliefs
from beliefstream.streams.live.beliefs import Latencies, Seen
from beliefstream.streams.live.posteriors import plain
from tests.streams.client.topics import posterior

KNOWN = (
    Seen(0, 6, 90.0, b'{"id": "r-6", "sensor": "r-7"}'),
    Seen(0, 7, 100.0, b'{"sensor": "beacon"}'),
    Seen(0, 8, 100.5, b'{"id": "r-8"}'),
)


@pytest.mark.parametrize(
    ("applied", "expected"), [(("0:7",), (1.0, 1.0)), (("r-8",), (0.5, 0.5)), (("0:7", "r-8"), (0.75, 1.0))]
)
def test_observations_are_found_by_their_place_or_their_id(
    applied: tuple[str, ...], expected: tuple[float, float]
) -> None:
    found = Latencies()
    found.add(plain(posterior(1, applied=applied)), 101.0, KNOWN)
    assert found.quantiles(0.5, 1.0) == expected


def test_it_is_unknown_without_a_match_and_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Latencies()
    found.add(plain(posterior(1, applied=("1:7", "r-9"))), 101.0, KNOWN)
    assert found.quantiles(0.5) is None
    found.add(plain(posterior(1, applied=("0:7",))), 101.0, KNOWN)
    assert found.quantiles(0.5) == (1.0,)
    monkeypatch.setattr(beliefs, "WINDOW", 0.0)
    assert found.quantiles(0.5) is None
