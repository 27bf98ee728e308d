"""A worker's updater for the tests of fitting."""

from __future__ import annotations

import pytest

from beliefstream.inference.update.updater import Updater
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.updater import make_updater


@pytest.fixture(scope="package")
def updater() -> Updater:
    return make_updater(Settings())
