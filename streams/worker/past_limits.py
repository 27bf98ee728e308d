"""Limits the stored past of an entity, in times and in bytes."""

from __future__ import annotations

from beliefstream.inference.tracking.timeline import Timeline
from beliefstream.streams.state.codec import StoredBelief

PAST_BYTES = 4 * 2**20  # all messages of an entity that may have to be applied again


def limit(past: Timeline[bytes, StoredBelief], window: float, most_moments: int) -> None:
    """Drop what late messages cannot need, and more if the messages have too many bytes.

    Args:
        window: the model's lateness window, in seconds.
        most_moments: number of newest moments that late messages can change.
    """
    past.thin()
    past.forget(window, most_moments)
    most = len(past.moments)
    while most and sum([len(moment.content) for moment in past.moments]) > PAST_BYTES:
        most //= 2
        if most:
            past.forget(window, most)
        else:
            past.close()
