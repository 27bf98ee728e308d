"""Beliefs that are put into the page's table without a broker."""

from __future__ import annotations

from beliefstream.schemas import Posterior
from beliefstream.streams.live.beliefs import Beliefs
from beliefstream.streams.live.posteriors import groups_of, plain


def take(table: Beliefs, *posteriors: Posterior) -> None:
    """As the page does with what it has read."""
    table.take(groups_of(enumerate(map(plain, posteriors))), [each.time for each in posteriors])
