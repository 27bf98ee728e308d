"""The updater that a worker makes from its settings."""

from __future__ import annotations

from structlog.testing import capture_logs

from beliefstream.inference.update.settings import WORKER
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.updater import make_updater


def test_a_worker_whose_code_is_compiled_logs_nothing_of_it() -> None:
    make_updater(Settings())
    with capture_logs() as lines:
        make_updater(Settings())
    assert not lines


def test_settings_of_the_library_for_a_worker_are_those_that_a_worker_has() -> None:
    assert make_updater(Settings()).settings == WORKER
