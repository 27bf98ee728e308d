from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from beliefstream.schemas import DeadLetter, Reason, Unusable
from beliefstream.schemas.dead_letter import replay_of
from tests.schemas.messages import relaxed


@relaxed
@given(
    st.sampled_from(Reason),
    st.text(max_size=100).filter(lambda text: text.isprintable()),
    st.integers(0, 2**31),
    st.integers(0, 2**63),
    st.none() | st.binary(),
    st.none() | st.binary(),
)
def test_a_dead_letter_is_the_same_after_a_record_and_back(
    reason: Reason, detail: str, partition: int, offset: int, key: bytes | None, value: bytes | None
) -> None:
    letter = DeadLetter(
        reason=reason,
        detail=detail,
        topic="observations",
        partition=partition,
        offset=offset,
        key=key,
        value=value,
    )
    assert DeadLetter.from_record(letter.key, letter.value, letter.headers()) == letter


def test_headers_have_their_agreed_names() -> None:
    letter = DeadLetter(
        reason=Reason.late, detail="time: 3 s late", topic="observations", partition=2, offset=7
    )
    assert letter.headers() == [
        ("beliefstream_reason", b"late"),
        ("beliefstream_detail", b"time: 3 s late"),
        ("beliefstream_source_topic", b"observations"),
        ("beliefstream_source_partition", b"2"),
        ("beliefstream_source_offset", b"7"),
    ]


def test_headers_stay_small_and_hold_any_text() -> None:
    letter = DeadLetter(
        reason=Reason.invalid, detail="\ud800" + "é" * 100_000, topic="t", partition=0, offset=0
    )
    assert sum(len(value) for _, value in letter.headers()) < 3000


def test_other_headers_are_passed_over() -> None:
    letter = DeadLetter(reason=Reason.late, detail="d", topic="t", partition=0, offset=0, value=b"\x00\xff")
    headers = [("ce_id", b"1"), ("beliefstream_colour", b"green"), *letter.headers()]
    assert DeadLetter.from_record(None, b"\x00\xff", headers) == letter


@pytest.mark.parametrize("headers", [None, [], [("beliefstream_reason", b"boredom")]])
def test_a_record_that_is_no_dead_letter_is_refused(headers: list[tuple[str, bytes]] | None) -> None:
    with pytest.raises(Unusable) as caught:
        DeadLetter.from_record(b"k", b"v", headers)
    assert caught.value.reason == Reason.invalid


def test_a_letter_says_that_its_message_had_been_sent_again() -> None:
    letter = DeadLetter(
        reason=Reason.late, detail="d", topic="t", partition=0, offset=9, replay_of="dead-letters/2:7"
    )
    assert letter.headers()[-1] == ("beliefstream_replay_of", b"dead-letters/2:7")
    assert DeadLetter.from_record(None, None, letter.headers()) == letter


def test_the_header_of_a_replay_is_read_whatever_stands_in_it() -> None:
    assert replay_of(None) is None
    assert replay_of([("ce_id", b"1")]) is None
    assert replay_of([("beliefstream_replay_of", b"dead-letters/2:7")]) == "dead-letters/2:7"
    hostile = replay_of([("beliefstream_replay_of", b"\x1b[2J\xff" + b"x" * 10_000)])
    assert hostile is not None and hostile.isprintable() and len(hostile) < 400
    assert replay_of([("beliefstream_replay_of", None)]) == ""
