"""The updater that a worker makes from its settings."""

from __future__ import annotations

from structlog.testing import capture_logs

from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.updater import make_updater


def test_a_worker_whose_code_is_compiled_logs_nothing_of_it() -> None:
    make_updater(Settings())
    with capture_logs() as lines:
        make_updater(Settings())
    assert not lines
