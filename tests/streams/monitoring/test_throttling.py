"""Equal warnings are counted, different ones are all written."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from beliefstream.streams.monitoring.logs import PERIOD_SECONDS, REPEATED, ThrottledHandler


class Log:
    """A logger with the handler, a clock that stands still, and what has been written."""

    def __init__(self) -> None:
        self.now, self._stream = 0.0, io.StringIO()
        self.handler = ThrottledHandler(self._stream, clock=lambda: self.now)
        self.handler.setFormatter(_Counting())
        self.logger = logging.Logger("aiokafka")
        self.logger.addHandler(self.handler)

    @property
    def lines(self) -> list[str]:
        return self._stream.getvalue().splitlines()


class _Counting(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.getMessage()} x{getattr(record, REPEATED, 0)}"


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log()
    yield made
    made.handler.close()


def test_the_first_of_equal_errors_is_written_at_once_and_then_one_line_a_period_with_a_count(
    log: Log,
) -> None:
    for tenth in range(round(25 * PERIOD_SECONDS)):  # two and a half periods
        log.now = tenth / 10
        log.logger.error("Unable connect to node with id %s: %s", 1, "refused")
    node = "Unable connect to node with id 1: refused"
    # the line of each period has what was held back before it
    assert log.lines == [f"{node} x0", f"{node} x599", f"{node} x600"]


def test_different_errors_are_all_written(log: Log) -> None:
    log.logger.error("Unable connect to node with id %s: %s", 1, "refused")
    log.logger.error("Unable connect to node with id %s: %s", 2, "refused")
    log.logger.error("Unable connect to node with id %s: %s", 1, "no route to host")
    log.logger.warning("Unable connect to node with id %s: %s", 1, "refused")
    log.logger.error("a step failed", exc_info=ValueError("one"))
    log.logger.error("a step failed", exc_info=ValueError("two"))
    assert len(log.lines) == 6
    assert all(line.endswith("x0") for line in log.lines)


def test_lines_that_differ_in_addresses_and_durations_only_are_equal(log: Log) -> None:
    log.logger.error("closed <Transport 0x7f01> of 10.0.0.1:9092 after %.1f s", 1.5)
    log.logger.error("closed <Transport 0x7f02> of 10.0.0.1:9092 after %.1f s", 31.5)
    log.logger.error("closed <Transport 0x7f02> of 10.0.0.2:9092 after %.1f s", 31.5)
    assert len(log.lines) == 2


def test_information_is_not_throttled(log: Log) -> None:
    for _ in range(3):
        log.logger.info("definitions read")
    assert len(log.lines) == 3


def test_what_was_held_back_is_written_where_nothing_else_is_logged_any_more(log: Log) -> None:
    for _ in range(4):
        log.logger.error("refused")
    log.handler.write_repeated()
    assert log.lines == ["refused x0"]
    log.now = PERIOD_SECONDS
    log.handler.write_repeated()
    assert log.lines == ["refused x0", "refused x3"]
    log.now = 3 * PERIOD_SECONDS
    log.handler.write_repeated()
    log.logger.error("refused")  # after a quiet period it is the first again
    assert log.lines == ["refused x0", "refused x3", "refused x0"]


def test_what_was_held_back_is_written_at_the_end(log: Log) -> None:
    for _ in range(4):
        log.logger.error("refused")
    log.handler.close()
    assert log.lines == ["refused x0", "refused x3"]


def test_kinds_of_lines_that_were_forgotten_have_told_their_counts(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beliefstream.streams.monitoring.logs.MOST_KINDS", 2)
    for name in ("a", "a", "b", "c"):
        log.logger.error(name)
    assert log.lines == ["a x0", "b x0", "a x1", "c x0"]


def test_a_worker_counts_the_lines_of_libraries_and_its_own() -> None:
    program = (
        "import logging, structlog; from beliefstream.streams.monitoring import logs; logs.configure('json');"
        "kafka, own = logging.getLogger('aiokafka'), structlog.get_logger('beliefstream.streams.definitions.reader');"
        "error = lambda: kafka.error('Unable to update metadata from %s', [1]);"
        "[(error(), own.warning('trying again', error='E')) for _ in range(5)];"
        "own.info('priors are read'); logging.getLogger('faust.streams').info('Starting...')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["event"], line.get(REPEATED)) for line in found] == [
        ("Unable to update metadata from [1]", None),
        ("trying again", None),
        ("priors are read", None),
        ("Unable to update metadata from [1]", 4),
        ("trying again", 4),
    ]
