"""After a gap that is too long a belief is not gone on with, whatever the order in which events come."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings, strategies as st

from beliefstream.inference.sensors import Reading
from beliefstream.inference.tracking.events import Event, PriorChange
from beliefstream.inference.tracking.filtering import Outcome, replay
from tests.inference.tracking.out_of_order_filter import OutOfOrderFilter
from tests.inference.tracking.test_timeline import MODEL, POSITION, STATED, assert_same, updater

EXPIRES = 0.5  # seconds
EXPIRING = replace(MODEL, expires_after=EXPIRES)


def seen(time: float) -> Event:
    return Event("e", time, Reading(POSITION, np.array([time, np.sin(40 * time)])))


def replayed(events: list[Event]) -> list[Outcome]:
    return [outcome for _, outcome in replay(events, lambda _: EXPIRING, updater())]


def test_what_comes_after_the_gap_starts_from_the_prior() -> None:
    before, after = [seen(0.0), seen(0.5)], [seen(1.01), seen(1.2)]
    together, alone = replayed([*before, *after]), replayed(after)
    assert_same(together[-1].belief, alone[-1].belief)
    assert together[-1].log_evidence == alone[-1].log_evidence


def test_a_gap_of_just_that_length_is_no_gap() -> None:
    # 0.5 after 0 is within it: the first one has made the second posterior narrower
    spread = [np.linalg.det(outcome.belief.covariances[0]) for outcome in replayed([seen(0.0), seen(0.5)])]
    (alone,) = replayed([seen(0.5)])
    assert spread[1] < 0.9 * np.linalg.det(alone.belief.covariances[0])


def test_a_stated_prior_is_something_heard() -> None:
    stated = Event("e", 0.4, prior=PriorChange(STATED))
    with_it, without = replayed([seen(0.0), stated, seen(0.8)]), replayed([seen(0.0), seen(0.8)])
    assert not np.allclose(with_it[-1].belief.means, without[-1].belief.means)
    assert_same(with_it[-1].belief, replayed([stated, seen(0.8)])[-1].belief)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.integers(0, 19), min_size=4, max_size=9, unique=True),
    st.sets(st.integers(0, 8)),
)
def test_any_order_and_any_batches_end_in_the_belief_of_the_replay(ticks: list[int], cuts: set[int]) -> None:
    """Gaps up to 1.9 s, that is with and without; a late one may close a gap that there was."""
    events = [seen(0.1 * tick) for tick in ticks]
    tested = OutOfOrderFilter(lambda _: EXPIRING, updater(), window=2.0)
    batch: list[Event] = []
    outcomes: dict[str, Outcome] = {}
    for place, event in enumerate(events):
        batch.append(event)
        if place in cuts or place == len(events) - 1:
            outcomes, late = tested.apply(batch)
            assert late == []
            batch = []
    assert_same(outcomes["e"].belief, replayed(events)[-1].belief)
