"""Recognises posteriors that were sent twice."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from beliefstream.schemas import Posterior

MOST_ENTITIES = 100_000  # of a partition, 34 MB


class _LastPosterior(NamedTuple):
    order: tuple[int, int]  # sequence, revision
    time: float
    content: int  # hash of the posterior's observations


class Duplicates:
    """The last posterior of each entity in one partition, to recognise one that was sent twice.

    A worker may die after it has sent posteriors and before it has stored its beliefs. Its successor then sends the
    last posterior of an entity again, with the same sequence. If the second one contains more observations than the
    first, it is not a duplicate. A lower sequence is a new belief of the entity if it starts again at 1 or has a later
    time.

    The last `MOST_ENTITIES` entities are remembered: what is sent twice follows soon.
    """

    def __init__(self) -> None:
        self._last: OrderedDict[str, _LastPosterior] = OrderedDict()

    def is_new(self, posterior: Posterior) -> bool:
        """Whether the posterior is new; remembers it if so."""
        order = (posterior.sequence, posterior.revision)
        content = hash((posterior.time, posterior.prior_sequence, posterior.applied))
        last = self._last.get(posterior.entity)
        if last is not None:
            if order == last.order and content == last.content:
                return False
            if order < last.order and posterior.sequence > 1 and posterior.time <= last.time:
                return False
        self._last[posterior.entity] = _LastPosterior(order, posterior.time, content)
        self._last.move_to_end(posterior.entity)
        if len(self._last) > MOST_ENTITIES:
            self._last.popitem(last=False)
        return True
