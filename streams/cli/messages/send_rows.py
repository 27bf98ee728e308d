"""Sends the observations of a table to Kafka, and says what came of its rows."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field

from beliefstream.schemas import Observation, Unusable
from beliefstream.streams.bridges import mapping
from beliefstream.streams.bridges.formats import FileFormat
from beliefstream.streams.bridges.mapping import ColumnMapping, Found
from beliefstream.streams.bridges.tables import open_table
from beliefstream.streams.cli import options
from beliefstream.streams.cli.output import counted, progress_bar
from beliefstream.streams.cli.sending import SOURCE
from beliefstream.streams.cli.setup import CommandError, opened
from beliefstream.streams.client import BrokerUnavailable, ObservationProducer, Place
from beliefstream.streams.settings import Settings

TICK = 500  # rows between two steps of the progress bar
_EMPTY = "there is no observation in it; nothing was sent"
BATCHES = {"linger_ms": 50, "batch_size": 256 * 1024}  # a file does not mind waiting: few, large requests


@dataclass
class Sent:
    """What came of the rows."""

    sent: int = 0  # rows that were given to the producer
    acknowledged: int = 0  # those of them that the broker has
    unusable: int = 0  # rows that are no observation
    place: str = ""  # of the last row that was sent
    behind: int = 0  # observations older than one of their entity that was sent before
    furthest: float = 0.0  # of those, how far the farthest lies behind, s
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


def send_rows(
    settings: Settings, file: str, format: FileFormat, columns: ColumnMapping, sort: bool, strict: bool
) -> None:
    """Send the rows of a file, those that cannot be used apart, and say what came of them.

    Raises CommandError if there is none to send, if one cannot be used and it is `strict`, or if it was stopped.
    """
    with closing(open_table(file, format, columns.bag)) as table:
        found: Iterable[Found] = mapping.observations(table, columns)
        if sort:
            found = sorted(found, key=_time)
        if strict:
            found = _all_usable(table.name, found)
        sent, began = Sent(), time.monotonic()
        stopped = _send(settings, found, table.size, sent)
    _report(table.name, sent, time.monotonic() - began, stopped)


def _time(found: Found) -> float:
    """When a row was observed; those that cannot be used come first."""
    return float("-inf") if isinstance(found.observation, Unusable) else found.observation.time


def _all_usable(name: str, found: Iterable[Found]) -> list[Found]:
    """All rows; raises CommandError if one of them cannot be used, or if there is none."""
    rows = list(found)
    if not rows:
        raise CommandError(f"{name}: {_EMPTY}")
    bad = [each for each in rows if isinstance(each.observation, Unusable)]
    for each in bad:
        options.tell(each)
    if bad:
        raise CommandError(f"{name}: {len(bad)} of {len(rows)} rows unusable; nothing was sent")
    return rows


def _send(settings: Settings, found: Iterable[Found], size: int | None, sent: Sent) -> bool:
    """Send, and wait until the broker has everything; returns whether Ctrl-C has stopped it."""
    try:
        with (
            opened(
                ObservationProducer, settings, settings.names.observations, source=SOURCE, **BATCHES
            ) as producer,
            progress_bar("rows") as progress,
        ):
            task = progress.add_task("send", total=size, note="")
            try:
                for number, (place, observation) in enumerate(found, 1):
                    if isinstance(observation, Unusable):
                        sent.unusable += 1
                        options.tell(Found(place, observation))
                    else:
                        producer.send_message(observation).add_done_callback(sent.acknowledge)
                        sent.add(place, observation)
                    if number % TICK == 0:
                        progress.update(task, completed=number)
                progress.update(task, completed=sent.sent + sent.unusable)
            except KeyboardInterrupt:
                return True
    except BrokerUnavailable as error:
        raise CommandError(
            f"{error}; sent as far as {sent.place}, and of {counted(sent.sent, 'observation')} the broker has "
            f"{sent.acknowledged}"
            if sent.sent
            else f"{error}; nothing was sent"
        ) from None
    return False


def _report(name: str, sent: Sent, seconds: float, stopped: bool) -> None:
    """Say what was sent; raises CommandError if nothing could be, or if it was stopped."""
    found = (
        f"{counted(sent.sent, 'observation')} of {counted(sent.entities, 'entity')}, "
        f"{counted(sent.unusable, 'unusable row')}"
    )
    if sent.unusable and not sent.sent:
        raise CommandError(f"{name}: {found}; nothing was sent")
    if sent.behind:
        print(
            f"{counted(sent.behind, 'observation')} out of order, by up to {sent.furthest:g} s: beyond the model's "
            "lateness window observations become dead letters; --sort sends in order of time",
            file=sys.stderr,
        )
    if not sent.sent and not stopped:
        print(f"{name}: {_EMPTY}", file=sys.stderr)
    if stopped:
        raise CommandError(f"stopped after {sent.place or 'nothing'}: sent {found}")
    print(f"sent {found}, in {seconds:.1f} s: {sent.sent / max(seconds, 1e-3):.0f}/s")
