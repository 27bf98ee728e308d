"""The notebook of docs/ runs from its first to its last cell, and finds what it says."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import nbformat
import pytest

from tests.streams.cli.conftest import small_weights as small_weights  # the fixture

pytestmark = pytest.mark.programs
OUTPUTS = runpy.run_path(str(Path(__file__).parent.parent / "docs" / "outputs.py"))
NOTEBOOK = OUTPUTS["NOTEBOOK"]
# appended for the test: three distances decide the place, one leaves a ring, and the stream has followed Ben
CHECK = """
import json
ring, decided = posteriors[0].mixture, posteriors[-1].mixture
print(json.dumps({
    "ring": ring.standard_deviations().tolist(),
    "decided": decided.standard_deviations().tolist(),
    "at_once": at_once.quality.sample_efficiency,
    "error": float(np.linalg.norm(decided.mean() - truth)),
    "followed": sorted({name for each in followed for name in each.applied}),
    "ben": float(np.linalg.norm(found.mean() - path[-1])),
}))
"""


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(
        not cell.outputs and cell.execution_count is None
        for cell in notebook.cells
        if cell.cell_type == "code"
    )


def test_the_notebook_runs_and_finds_what_it_says(
    small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", str(small_weights))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(CHECK))
    OUTPUTS["execute"](notebook, tmp_path)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.get("name") == "stderr"]
    found = json.loads(notebook.cells[-1].outputs[0].text)
    assert min(found["ring"]) > 2 and max(found["decided"]) < 0.5
    assert found["at_once"] > 0.95
    assert found["error"] < 0.7
    assert found["followed"] == sorted(f"step-{step}" for step in range(20))
    assert found["ben"] < 1.5
