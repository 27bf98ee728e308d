"""Measures what observations cost where belief and world disagree: a fleet that is elsewhere at once, without Kafka."""

from __future__ import annotations

import time
from typing import NamedTuple

import msgspec
import torch

from beliefstream.inference.tracking import filtering
from beliefstream.inference.update.updater import Updater
from research.bench.fleet_cost import make_model, simulate

ENTITIES, REPORTS = 60, 25
SILENCE = 5.0  # s between the two runs


class Contradicted(NamedTuple):
    """Observations a processor second, before and after every entity is elsewhere at once."""

    usual: float
    contradicted: float

    @property
    def share(self) -> float:
        """What is left of the usual speed."""
        return self.contradicted / self.usual

    def as_dict(self) -> dict[str, float]:
        """Return both and the share as a JSON value."""
        return {**self._asdict(), "share": self.share}


def measure_contradicted(
    updater: Updater, entities: int = ENTITIES, reports: int = REPORTS, seed: int = 11
) -> Contradicted:
    """Replay a fleet, and then another one under the names of the first, as if it had jumped."""
    torch.set_num_threads(1)
    first, second = (simulate(entities, reports, each)[0] for each in (seed, seed + 1))
    end = max(float(event.time) for event in first)
    moved = [msgspec.structs.replace(event, time=event.time + end + SILENCE) for event in second]
    model = make_model()
    list(filtering.replay(first, lambda _: model, updater))  # loads what is loaded once
    seconds = {False: 0.0, True: 0.0}
    before = time.process_time()
    # all entities advance together, so time passes at the first of each round only
    for _, outcome in filtering.replay([*first, *moved], lambda _: model, updater):
        now = time.process_time()
        seconds[outcome.belief.time > end] += now - before
        before = now
    return Contradicted(len(first) / seconds[False], len(moved) / seconds[True])
