"""Recognises posteriors that were sent twice."""

from __future__ import annotations

from typing import NamedTuple

from schemas import Posterior


class _Seen(NamedTuple):
    order: tuple[int, int]  # sequence, revision
    time: float
    content: int  # hash of what the posterior is of


class Duplicates:
    """What has been seen of the entities of one partition.

    A worker that dies between sending posteriors and remembering it sends its last posterior of an entity
    again, with the same sequence. The one sent again may be of more observations than the first: then it is
    no duplicate. A sequence that begins again at 1, or of a later time, belongs to a belief that was begun anew.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def is_new(self, posterior: Posterior) -> bool:
        """Whether the posterior has not been seen; from then on it has."""
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
