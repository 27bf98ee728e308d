"""The updater that a worker makes from its settings."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from beliefstream.inference.update.settings import FAST, WORKER, UpdateSettings
from beliefstream.streams.settings import Accuracy, Settings
from beliefstream.streams.worker.updater import make_updater


def test_a_worker_whose_code_is_compiled_logs_nothing_of_it() -> None:
    make_updater(Settings())
    with capture_logs() as lines:
        make_updater(Settings())
    assert not lines


@pytest.mark.parametrize(
    ("accuracy", "settings"), [("fast", FAST), ("normal", WORKER), ("thorough", UpdateSettings())]
)
def test_an_accuracy_stands_for_settings_of_the_library(accuracy: Accuracy, settings: UpdateSettings) -> None:
    assert make_updater(Settings(accuracy=accuracy)).settings == settings


def test_normal_is_the_accuracy_of_a_worker_that_is_told_none() -> None:
    assert Settings().accuracy == "normal"
