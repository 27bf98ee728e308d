from __future__ import annotations

import math
import time

import numpy as np
import pytest

from beliefstream.schemas import Prior
from beliefstream.streams.demo.crate import CRATE, PLACES
from beliefstream.streams.demo.scenario import ScheduledMessage
from beliefstream.streams.demo.services import WorkerFigures
from beliefstream.streams.demo.tracking import Tracker
from beliefstream.streams.demo.view import dead_letters, jump_lines, line, recovery_lines, span
from tests.streams.demo.plays import perfect_tracker, posterior, small_schedule

SCHEDULE = small_schedule()


def test_an_observation_is_missing_until_a_posterior_names_it() -> None:
    tracker = Tracker(SCHEDULE)
    message = next(message for message in SCHEDULE.messages if message.observation is not None)
    assert message.observation is not None
    assert message.observation.id is not None
    tracker.sent(message, 10.0)
    assert tracker.missing() == 1
    found = posterior(
        SCHEDULE, message.observation.entity, message.observation.time, applied=[message.observation.id]
    )
    tracker.received(found, 10.25)
    assert tracker.missing() == 0


def test_latency_is_from_sent_to_received() -> None:
    tracker = Tracker(SCHEDULE)
    tracker.begin()
    now = time.monotonic()
    messages = [
        message for message in SCHEDULE.messages if message.observation is not None and not message.note
    ][:20]
    for message in messages:
        assert message.observation is not None
        tracker.sent(message, now)
        found = posterior(
            SCHEDULE,
            message.observation.entity,
            message.observation.time,
            applied=[str(message.observation.id)],
        )
        tracker.received(found, now + 0.25)
    figures = tracker.figures(recent=None)
    assert figures.latency_median == pytest.approx(0.25)
    assert figures.latency_95 == pytest.approx(0.25)
    assert (figures.sent, figures.applied, figures.posteriors) == (20, 20, 20)
    assert figures.sample_efficiency == pytest.approx(0.8)


def test_planted_messages_and_priors_are_not_waited_for() -> None:
    tracker = Tracker(SCHEDULE)
    for message in SCHEDULE.messages:
        if message.note:
            tracker.sent(message, 1.0)
    gates = SCHEDULE.gates
    tracker.sent(
        ScheduledMessage(1.0, prior=Prior(entity=gates.entity, mixture=gates.mixture(), time=gates.time)), 1.0
    )
    assert tracker.missing() == 0
    assert tracker.figures().sent == 0


def test_error_and_spread_are_those_of_the_position() -> None:
    tracker = Tracker(SCHEDULE)
    time_ = SCHEDULE.recording.observations[3].time
    tracker.received(posterior(SCHEDULE, "mower", time_, offset=(3.0, 4.0), deviation=2.0), 1.0)
    tracker.received(posterior(SCHEDULE, CRATE, SCHEDULE.crate.observations[0].time), 1.0)
    figures = tracker.figures()
    assert figures.mower_error == pytest.approx(5.0)
    assert figures.mower_spread == pytest.approx(2.0 * math.sqrt(2.0))
    assert math.isnan(figures.fleet_error)


def test_the_jump_is_the_belief_before_the_prior_itself_and_what_follows() -> None:
    tracker, gates = Tracker(SCHEDULE), SCHEDULE.gates
    assert tracker.jump() is None
    for seconds, method in ((-1.0, "kalman"), (0.0, "prior"), (0.5, "refined"), (1.0, "kalman")):
        tracker.received(posterior(SCHEDULE, gates.entity, gates.time + seconds, method=method), 1.0)
    jump = tracker.jump()
    assert jump is not None
    assert (jump.before.method, jump.stated.method) == ("kalman", "prior")
    assert [seen.method for seen in jump.after] == ["refined", "kalman"]
    assert math.isnan(jump.stated.sample_efficiency)
    assert [text.split("  ")[0].strip() for text in jump_lines(jump)] == [
        "before",
        "stated: north or south gate",
        "after 1 observation",
    ]


def carried(wrong: int) -> Tracker:
    """Beliefs of the crate that are right, but for the first `wrong` ones after it was carried."""
    tracker, old_from_new = Tracker(SCHEDULE), np.subtract(*PLACES).tolist()
    for each in SCHEDULE.crate.observations:
        is_wrong = is_carried(each.time) and (wrong := wrong - 1) >= 0
        offset, p_value = (old_from_new, 3e-20) if is_wrong else ((0.0, 0.1), 0.5)
        tracker.received(posterior(SCHEDULE, CRATE, each.time, offset=offset, p_value=p_value), 1.0)
    return tracker


def is_carried(time_: float) -> bool:
    return bool(np.allclose(SCHEDULE.truth(CRATE, [time_])[0], PLACES[1]))


def test_the_crates_recovery_is_counted_in_reports_after_it_was_carried() -> None:
    after = sum(is_carried(each.time) for each in SCHEDULE.crate.observations)
    before = len(SCHEDULE.crate.observations) - after
    first, last = recovery_lines(carried(wrong=9).track(CRATE))
    assert f"was carried 6.3 m after {before} reports" in first
    assert f"right again after 10 of the {after} later reports (median p-value until then 3e-20)" in last
    assert last.endswith("at the end: believed error 1.41 m, true error 0.10 m")
    assert f"right again after 1 of the {after}" in recovery_lines(carried(wrong=0).track(CRATE))[1]
    assert f"still wrong after {after} of the {after}" in recovery_lines(carried(wrong=after).track(CRATE))[1]


def test_a_crate_that_was_not_carried_yet_has_no_recovery() -> None:
    assert recovery_lines([]) == []
    assert recovery_lines(carried(wrong=0).track(CRATE)[:3]) == []


def test_a_line_says_what_there_is_also_when_there_is_nothing() -> None:
    assert "0 entities" in line(Tracker(SCHEDULE).figures(), WorkerFigures())
    assert "dead letters: none" in line(Tracker(SCHEDULE).figures(), WorkerFigures())
    text = line(perfect_tracker(SCHEDULE).figures(), WorkerFigures(dead_letters={"late": 2, "future": 1}))
    assert "8 entities" in text
    assert "future 1, late 2" in text


def test_times_are_written_in_a_unit_that_fits() -> None:
    assert span(0.0123) == "12 ms"
    assert span(12.34) == "12.3 s"
    assert span(math.nan) == "–"
    assert dead_letters(WorkerFigures()) == "none"
