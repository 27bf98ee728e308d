"""Sends the observations of a table to Kafka."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from beliefstream.schemas import Observation, Unusable
from beliefstream.streams.bridges.mapping import Found

if TYPE_CHECKING:
    from beliefstream.streams.client import ObservationProducer, Place


@dataclass
class Sent:
    """What came of the rows.

    Attributes:
        sent: rows that were given to the producer.
        acknowledged: those of them that the broker has.
        unusable: rows that are no observation.
        place: of the last row that was sent.
        behind: observations older than one of their entity that was sent before.
        furthest: of those, how far the farthest lies behind, s.
    """

    sent: int = 0
    acknowledged: int = 0
    unusable: int = 0
    place: str = ""
    behind: int = 0
    furthest: float = 0.0
    _latest: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def entities(self) -> int:
        """Number of entities."""
        return len(self._latest)

    def add(self, place: str, observation: Observation) -> None:
        """Count an observation that is sent now."""
        self.sent += 1
        self.place = place
        latest = self._latest.get(observation.entity, observation.time)
        if observation.time < latest:
            self.behind += 1
            self.furthest = max(self.furthest, latest - observation.time)
        self._latest[observation.entity] = max(latest, observation.time)

    def acknowledge(self, outcome: Future[Place]) -> None:
        """Count an observation that the broker has taken, in whichever thread says so."""
        if outcome.exception() is None:
            with self._lock:
                self.acknowledged += 1


def send(
    found: Iterable[Found], producer: ObservationProducer, sent: Sent, refuse: Callable[[Found], None]
) -> None:
    """Send every observation without waiting, count it in `sent`, and give `refuse` each row that is none.

    An error of the producer ends the loop; `sent` says how far it came.
    """
    for each in found:
        if isinstance(each.observation, Unusable):
            sent.unusable += 1
            refuse(each)
            continue
        producer.send_message(each.observation).add_done_callback(sent.acknowledge)
        sent.add(each.place, each.observation)


def in_order_of_time(found: Iterable[Found]) -> list[Found]:
    """All rows, those that cannot be used first, then the observations by time."""
    return sorted(found, key=lambda each: _time(each.observation))


def _time(observation: Observation | Unusable) -> float:
    return float("-inf") if isinstance(observation, Unusable) else observation.time
