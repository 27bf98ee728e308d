from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import from_rfc3339, to_rfc3339
from tests.schemas.messages import relaxed


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T00:00:00.25Z", 0.25),
        ("1970-01-01t01:00:00+01:00", 0.0),
        ("1969-12-31 19:00:00-05:00", 0.0),
        ("1970-01-01T00:00:00.123456789z", 0.123456789),
        ("2016-12-31T23:59:60Z", 1483228800.0),  # a leap second
        ("0001-01-01T00:00:00Z", -62135596800.0),
    ],
)
def test_rfc_3339_is_read(text: str, seconds: float) -> None:
    assert from_rfc3339(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-01",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00Z",
        "20260101T000000Z",
        "2026-13-01T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:00+25:00",
        "2026-01-01T00:00:00Z\n",
        "0000-01-01T00:00:00Z",
        "٢٠٢٦-01-01T00:00:00Z",
        "W2026-01-01T00:00:00Z",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        from_rfc3339(text)


@relaxed
@given(st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)))
def test_times_agree_with_datetime(moment: datetime) -> None:
    assert from_rfc3339(moment.isoformat()) == pytest.approx(moment.timestamp(), abs=2e-5)


@relaxed
@given(st.integers(-(10**10), 10**11))
def test_seconds_are_the_same_after_text_and_back(seconds: int) -> None:
    assert from_rfc3339(to_rfc3339(float(seconds))) == seconds
