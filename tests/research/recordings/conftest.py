"""Where the recorded data is, for the tests that read it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from research.recordings.parts import DATA_VARIABLE


def data_folder() -> Path | None:
    """That of the environment, or the one beside the repository; None if there is neither."""
    named = os.environ.get(DATA_VARIABLE)
    beside = Path(__file__).parents[3].parent / "shared" / "data"
    folder = Path(named) if named else beside
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def data() -> Path:
    folder = data_folder()
    if folder is None:
        pytest.skip(
            f"the recorded data is not here: {DATA_VARIABLE} names its folder, or ../shared/data holds it"
        )
    return folder
