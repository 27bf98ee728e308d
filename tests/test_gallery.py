"""The programs of docs/gallery run, find what they look for, and each is on the page."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the programs draw")
DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "gallery.md"
OUTPUTS = runpy.run_path(str(DOCS / "outputs.py"))
LARGEST = {  # median distance from the truth, metres
    "bluetooth": 4.0,
    "drones": 1.0,
    "indoor_uwb": 0.4,
    "late_data": 1.0,
    "learned_sensor": 2.0,
    "mower": 1.0,
    "own_sensor": 0.5,
    "ships": 15.0,
}


def defined(name: str) -> dict[str, Any]:
    """What a program defines; it prints one line."""
    found, printed = OUTPUTS["run"](DOCS / "gallery" / f"{name}.py")
    assert printed.count("\n") == 1
    return dict(found)


@pytest.mark.parametrize("name", LARGEST)
def test_a_program_of_the_gallery_finds_what_it_looks_for(name: str) -> None:
    found = defined(name)
    assert np.median(found["errors"]) < LARGEST[name]
    if name == "indoor_uwb":  # detours in the noise help
        assert np.median(found["errors"]) < np.median(found["others"])
    if name == "late_data":  # the order of arrival does not matter, and late pictures do
        assert found["change"] == 0
        assert np.linalg.norm(found["distances_only"][9.5].mean()[:2] - found["path"][-1]) > 2


def test_every_program_is_on_the_page() -> None:
    linked = re.findall(r"\(gallery/(\w+)\.py\)", PAGE.read_text(encoding="utf-8"))
    assert sorted(linked) == sorted(LARGEST) == [program.stem for program in OUTPUTS["PROGRAMS"]]
