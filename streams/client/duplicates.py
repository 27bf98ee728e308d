"""Recognises posteriors that were sent twice."""

from __future__ import annotations

from typing import NamedTuple

from beliefstream.schemas import Posterior


class _Seen(NamedTuple):
    order: tuple[int, int]  # sequence, revision
    time: float
    content: int  # hash of the posterior's observations


class Duplicates:
    """Posteriors already seen, by entity, in one partition.

    A worker that dies after it has sent posteriors, but before it has stored that, sends its last posterior of an
    entity again, with the same sequence. If the second one contains more observations than the first, it is no
    duplicate. A sequence that starts again at 1, or has a later time, belongs to a belief that was started anew.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def is_new(self, posterior: Posterior) -> bool:
        """Whether the posterior is new; it is marked as seen."""
        order = (posterior.sequence, posterior.revision)
        content = hash((posterior.time, posterior.prior_sequence, posterior.applied))
        last = self._seen.get(posterior.entity)
        if last is not None:
            if order == last.order and content == last.content:
                return False
            if order < last.order and posterior.sequence > 1 and posterior.time <= last.time:
                return False
        self._seen[posterior.entity] = _Seen(order, posterior.time, content)
        return True
