"""Decides which dead letters to send again, and why not the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Self

from beliefstream.schemas import Reason, Replay
from beliefstream.streams.client.publishing import Place
from beliefstream.streams.client.received_dead_letter import ReceivedDeadLetter

FORCE = "only --force sends them once more"
DEFINITION = "are definitions, of which the newest is in force; set them with `sensors set` or `models set`"
ELSEWHERE = "came from a topic that is not among ours"
EMPTY = "have neither key nor value"
TWICE = "repeat another dead letter of the same message"
SENT = f"were sent again before; {FORCE}"
INTERRUPTED = f"may have been sent again before, in a replay that was interrupted; {FORCE}"
FAILED_AGAIN = f"were sent again before and have failed again; {FORCE}"
BEYOND = "are older than those that --limit takes"


@dataclass(frozen=True, slots=True)
class ChosenLetter:
    """A dead letter to send again, without its bytes, which are read when it is sent.

    Attributes:
        id: of the message: topic/partition:offset#digest.
        place: of the dead letter.
        time: when the dead letter was written, seconds since the epoch.
        source: topic/partition:offset of the message.
        topic: of the message.
        is_empty: it has neither key nor value.
        replay_of: the dead letter from which the message had already been sent again.
    """

    id: str
    place: Place
    time: float
    reason: Reason
    topic: str
    source: str
    entity: str | None
    sensor: str | None
    is_empty: bool
    replay_of: str | None

    @classmethod
    def of(cls, received: ReceivedDeadLetter) -> Self:
        """Keep what the plan needs of a letter."""
        letter = received.letter
        return cls(
            received.id,
            received.place,
            received.time,
            letter.reason,
            letter.topic,
            received.source,
            received.entity,
            received.sensor,
            letter.key is None and not letter.value,
            letter.replay_of,
        )


@dataclass
class ReplayHistory:
    """Earlier replays, from the notes among the dead letters.

    Attributes:
        begun: ids of messages about to be sent again.
        sent: ids of messages that were sent again, with their new places.
    """

    begun: set[str] = field(default_factory=set)
    sent: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, notes: Iterable[Replay]) -> Self:
        """Combine all notes."""
        history = cls()
        for note in notes:
            if note.state == "begun":
                history.begun.update(note.letters)
            else:
                history.sent.update(zip(note.letters, note.places, strict=False))
        return history

    def obstacles(self, letters: Iterable[ChosenLetter]) -> list[str | None]:
        """For each letter, the reason not to send it again without `force`; None if there is none."""
        places = {*self.sent.values()}
        return [self._obstacle(letter, places) for letter in letters]

    def _obstacle(self, letter: ChosenLetter, places: Collection[str]) -> str | None:
        if letter.id in self.sent:
            return SENT
        if letter.id in self.begun:
            return INTERRUPTED
        return FAILED_AGAIN if letter.replay_of is not None or letter.source in places else None


@dataclass
class ReplayPlan:
    """Letters to send again, oldest first, and counts of the others by cause."""

    chosen: list[ChosenLetter] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def plan_of(
    letters: list[ChosenLetter],
    history: ReplayHistory,
    sources: Collection[str],
    definitions: Collection[str],
    most: int | None = None,
    force: bool = False,
) -> ReplayPlan:
    """Plan a replay of the newest `most` letters that may be sent again.

    Args:
        letters: the selected ones, in order of time.
        history: of earlier replays.
        sources: topics to which messages may be sent again.
        definitions: topics of definitions.
        most: largest number of letters; all, if absent.
        force: include letters that were already sent again.
    """
    plan, seen = ReplayPlan(), set[str]()
    for letter, obstacle in zip(letters, history.obstacles(letters), strict=True):
        cause = DEFINITION if letter.topic in definitions else None
        cause = cause or (None if letter.topic in sources else ELSEWHERE)
        cause = cause or (EMPTY if letter.is_empty else TWICE if letter.id in seen else None)
        cause = cause or (None if force else obstacle)
        if cause is not None:
            plan.skipped[cause] += 1
            continue
        seen.add(letter.id)
        plan.chosen.append(letter)
    if most is not None and (beyond := len(plan.chosen) - most) > 0:
        plan.skipped[BEYOND] = beyond
        del plan.chosen[:beyond]
    return plan
