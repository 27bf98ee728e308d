"""The updater that a worker makes from its settings."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from beliefstream.inference.mixtures import native_forms
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.updater import make_updater


def test_a_worker_without_numba_logs_that_updates_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    with capture_logs() as lines:
        make_updater(Settings())
    assert not lines
    monkeypatch.setattr(native_forms, "FORMS", ("mixtures.no_such_form",))
    with capture_logs() as lines:
        make_updater(Settings())
    assert [(line["log_level"], "Numba cannot be imported" in line["event"]) for line in lines] == [
        ("warning", True)
    ]
