from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from beliefstream.schemas import Observation, Reason, Unusable, from_rfc3339, parse, to_rfc3339
from beliefstream.schemas.time import unit_hint
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


@relaxed
@given(st.floats(-6e10, 2e11) | st.integers(-(10**8), 10**8).map(lambda number: number * 5e-7))
def test_text_is_rounded_to_the_microsecond_as_datetime_does(seconds: float) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    assert to_rfc3339(seconds) == moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


@pytest.mark.parametrize("seconds", [1e308, -1e308, float("nan"), float("inf"), 10**400, -62135596801, 1e12])
def test_a_time_that_rfc_3339_cannot_write_is_a_value_error(seconds: float) -> None:
    with pytest.raises(ValueError, match="1 to 9999"):
        to_rfc3339(seconds)


def refused(time: str) -> Unusable:
    with pytest.raises(Unusable) as caught:
        parse(Observation, b'{"entity":"a","sensor":"s","value":1,"time":%s}' % time.encode())
    return caught.value


@pytest.mark.parametrize(
    ("time", "unit"),
    [
        ("1769860800123", "milliseconds"),
        ("1769860800123456", "microseconds"),
        ("1769860800123456789", "nanoseconds"),
        ("1.769860800123e12", "milliseconds"),
    ],
)
def test_another_unit_than_seconds_is_named_with_the_time_that_it_would_be(time: str, unit: str) -> None:
    error = refused(time)
    assert error.reason == Reason.invalid_time
    assert error.detail.startswith(
        f"time: looks like {unit} since the epoch (2026-01-31T12:00:00Z); give seconds"
    )


@pytest.mark.parametrize("time", ["9" * 309, "-" + "9" * 309, "1e308", "-1e308", "1e20", "-1769860800123"])
def test_an_absurd_time_is_refused_and_no_unit_is_guessed(time: str) -> None:
    error = refused(time)
    assert error.reason == Reason.invalid_time
    assert "within the years 1 to 9999" in error.detail


@pytest.mark.parametrize("time", ["NaN", "Infinity", "-Infinity", "1e309"])
def test_a_time_that_is_not_finite_is_called_so(time: str) -> None:
    assert refused(time).reason == Reason.not_finite


def test_no_unit_is_guessed_for_times_of_this_age() -> None:
    assert {unit_hint(seconds) for seconds in (-1e12, 0.0, 1.77e9, 9.9e10, float("nan"), float("inf"))} == {
        ""
    }
