"""Plans which dead letters to send again, and says why the others are skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Self

from beliefstream.schemas import Reason, Replay
from beliefstream.streams.client.publisher import Place
from beliefstream.streams.client.received_dead_letter import ReceivedDeadLetter

FORCE = "only --force sends them again"
DEFINITION = "are definitions, of which only the newest counts; set them with `sensors set` or `models set`"
OTHER_TOPIC = "came from a topic that is not in use"
EMPTY = "have neither key nor value"
DUPLICATE = "repeat another dead letter of the same message"
SENT = f"were sent again before; {FORCE}"
INTERRUPTED = f"may have been sent again before, in an interrupted replay; {FORCE}"
FAILED_AGAIN = f"were sent again before and have failed again; {FORCE}"
OVER_LIMIT = "are older than the newest ones that --limit selects"


@dataclass(frozen=True, slots=True)
class ChosenLetter:
    """A dead letter to send again, without its bytes, which are read when it is sent.

    Attributes:
        id: identifier of the message, topic/partition:offset#digest.
        place: position of the dead letter.
        time: time at which the dead letter was written, in seconds since the epoch.
        source: position of the message, as topic/partition:offset.
        topic: topic of the message.
        is_empty: whether it has neither key nor value.
        replay_of: earlier dead letter from which the message was already sent again.
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
        """Keep the fields of a letter that the plan needs."""
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
        begun: ids of messages whose replay was begun.
        sent: new position of each message that was sent again, by its id.
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
        """Return for each letter the reason not to send it again without `force`; None if it may be sent."""
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
    """Letters to send again, oldest first, and the number of skipped ones by cause."""

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
        letters: selected letters, in order of time.
        history: earlier replays.
        sources: topics to which messages may be sent again.
        definitions: topics of definitions.
        most: largest number of letters; all if None.
        force: whether to include letters that were already sent again.
    """
    plan, chosen_ids = ReplayPlan(), set[str]()
    for letter, obstacle in zip(letters, history.obstacles(letters), strict=True):
        cause = DEFINITION if letter.topic in definitions else None
        cause = cause or (None if letter.topic in sources else OTHER_TOPIC)
        cause = cause or (EMPTY if letter.is_empty else DUPLICATE if letter.id in chosen_ids else None)
        cause = cause or (None if force else obstacle)
        if cause is not None:
            plan.skipped[cause] += 1
            continue
        chosen_ids.add(letter.id)
        plan.chosen.append(letter)
    if most is not None and (beyond := len(plan.chosen) - most) > 0:
        plan.skipped[OVER_LIMIT] = beyond
        del plan.chosen[:beyond]
    return plan
