from __future__ import annotations

from beliefstream.schemas import Reason
from beliefstream.streams.cli.remedies import REMEDIES, remedy_for, remedy_for_topics
from beliefstream.streams.kafka.topics import (
    TopicNames,
    compaction_problems,
    partition_problems,
    size_problems,
)


def test_for_every_reason_it_is_said_what_to_do() -> None:
    assert set(REMEDIES) == set(Reason)
    assert all(remedy_for(reason).isprintable() and remedy_for(reason) for reason in Reason)


def test_every_problem_that_the_check_finds_has_something_to_do() -> None:
    names = TopicNames()
    counts = dict.fromkeys(names, 3) | {names.priors: 4, names.dead_letters: 1}
    problems = [
        "The topic 'priors' does not exist.",
        "The topic 'priors' may not be seen by this user.",
        *partition_problems(names, counts, 3),
        *compaction_problems(names, {name: {"cleanup.policy": "delete"} for name in names}),
        *size_problems(names, {name: {"max.message.bytes": "1000"} for name in names}),
    ]
    assert len(problems) == 21
    assert all(remedy_for_topics([problem]) for problem in problems)
    assert remedy_for_topics(problems).isprintable()
