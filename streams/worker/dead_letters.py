"""Records for the dead-letter topic, and log lines about them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import structlog

from beliefstream.schemas import DeadLetter, Reason, printable
from beliefstream.streams.kafka.producing import Record

log = structlog.get_logger()

PERIOD_SECONDS = 60.0  # between log lines with counts
LONGEST_ENTITY = 80  # bytes of a key in the log


def dead_letter(
    topic: str,
    reason: Reason,
    detail: str,
    source: tuple[str, int, int],
    key: bytes | None,
    value: bytes | None,
    replay_of: str | None = None,
) -> Record:
    """Build a dead letter with the original key and value.

    Headers hold reason, detail, `source` (topic, partition, offset) and `replay_of`.
    """
    name, partition, offset = source
    letter = DeadLetter(
        reason=reason, detail=detail, topic=name, partition=partition, offset=offset, replay_of=replay_of
    )
    # a record needs a key or a value; an empty value stands for a source without both
    content = value if key is not None or value is not None else b""
    return Record(topic, partition, key, content, letter.headers())


class Example(NamedTuple):
    """A dead letter to log; `source` is topic, partition and offset."""

    source: tuple[str, int, int]
    key: bytes | None
    detail: str

    def fields(self) -> dict[str, Any]:
        """The fields to log."""
        topic, partition, offset = self.source
        entity = None
        if self.key is not None:
            entity = printable(self.key[:LONGEST_ENTITY].decode(errors="backslashreplace"))
        place = {"topic": topic, "partition": partition, "offset": offset}
        return {**place, "entity": entity, "detail": printable(self.detail)}


class Announcer:
    """Logs dead letters: the first of a reason at once, and the counts every period.

    After a whole period without a dead letter of a reason, the next one is logged at once again.

    Args:
        clock: monotonic, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._since = clock, clock()
        self._known: set[Reason] = set()
        self._counts: Counter[Reason] = Counter()  # in this period
        self._logged = 0  # of these, logged one by one
        self._newest: Example | None = None
        self._total = 0

    def note(self, reason: Reason, example: Example, count: int = 1) -> None:
        """Count dead letters of a reason after they have been written."""
        self._counts[reason] += count
        self._total += count
        self._newest = example
        if reason not in self._known:
            self._known.add(reason)
            self._logged += 1
            log.warning(
                "dead letter",
                reason=reason.value,
                **example.fields(),
                more=f"the next ones of this reason are counted every {PERIOD_SECONDS:.0f} s",
            )

    def log_counts(self) -> None:
        """Log the counts if a period has passed; call this regularly."""
        if self._clock() - self._since >= PERIOD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Log the counts since the last line, unless all were logged one by one."""
        now = self._clock()
        in_period = self._counts.total()
        if in_period > self._logged and self._newest is not None:
            log.warning(
                "dead letters",
                seconds=round(now - self._since),
                count=in_period,
                reasons={reason.value: count for reason, count in self._counts.most_common()},
                since_start=self._total,
                newest=self._newest.fields(),
            )
        self._known = {*self._counts}
        self._counts, self._logged, self._since = Counter(), 0, now


ANNOUNCER = Announcer()
"""The announcer of this worker."""
