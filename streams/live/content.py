"""What the page shows, as it was read: beliefs, their history, and what is said beside them."""

from __future__ import annotations

import time
from typing import Any

from beliefstream.streams.kafka.reachability import Reachability
from beliefstream.streams.live.beliefs import Beliefs, Plane
from beliefstream.streams.live.history import History
from beliefstream.streams.live.overview import Overview
from beliefstream.streams.live.reading import Batch

MEASURED = 50  # posteriors of a batch whose latency is measured, at most


class Content:
    """The beliefs, their history, what is said beside them, and whether the broker answers."""

    def __init__(self, broker: Reachability, plane: Plane | None = None) -> None:
        self.beliefs, self.overview, self.history = Beliefs(plane), Overview(), History()
        self.broker = broker

    def apply(self, batch: Batch) -> None:
        """Take over what has been read."""
        entities = self.beliefs.entities
        self.beliefs.take(batch.posteriors, batch.stamps)
        for name, observations in batch.observations.items():
            if (entity := entities.get(name)) is not None:
                entity.observations.extend(observations)
        for group in batch.posteriors:
            for place, posterior in list(zip(group.places, group.posteriors, strict=True))[-MEASURED:]:
                if (entity := entities.get(posterior.entity)) is not None:
                    self.overview.latencies.add(posterior, batch.stamps[place], entity.observations)
        self.overview.add(batch)
        if self.history.is_due:
            self.history.take(self.beliefs, self.overview.health(self.beliefs), self.overview.words())

    def stream(self) -> dict[str, Any]:
        """How old the newest messages are, and since when and why the broker has not answered."""
        return {"fault": self.broker.fault, "silence": self.broker.silence, **self.overview.ages()}

    def range(self) -> tuple[float, float]:
        """Times of the oldest snapshot, and of now."""
        now = time.time()
        return self.history.begin or now, now
