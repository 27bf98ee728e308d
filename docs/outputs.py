"""Runs the notebook and the programs of the gallery, and keeps what they print and draw in build/outputs/.

`make docs` does so before `docs/assemble.py` puts it on the site.
"""

from __future__ import annotations

import io
import runpy
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import matplotlib
import matplotlib.pyplot as plt
import nbformat
from nbclient import NotebookClient

DOCS = Path(__file__).parent
OUTPUTS = DOCS.parent / "build" / "outputs"
NOTEBOOK = DOCS / "ten-minutes.ipynb"
PROGRAMS = sorted((DOCS / "gallery").glob("*.py"))
PATIENCE = 240  # seconds for a cell, on a busy machine


def run(program: Path) -> tuple[dict[str, Any], str]:
    """What a program of the gallery defines and prints; its figure is the current one."""
    matplotlib.use("Agg")
    plt.close("all")
    with mock.patch.object(plt, "show"), redirect_stdout(io.StringIO()) as printed:
        defined = runpy.run_path(str(program))
    return defined, printed.getvalue()


def execute(notebook: Any, folder: Path) -> None:
    """Run a notebook in a folder, which adds its outputs to it."""
    NotebookClient(notebook, timeout=PATIENCE, resources={"metadata": {"path": str(folder)}}).execute()


def main() -> None:
    """Run everything."""
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    with TemporaryDirectory() as folder:
        execute(notebook, Path(folder))
    nbformat.write(notebook, OUTPUTS / NOTEBOOK.name)
    for program in PROGRAMS:
        _, printed = run(program)
        (OUTPUTS / f"{program.stem}.txt").write_text(printed, encoding="utf-8")
        plt.savefig(OUTPUTS / f"{program.stem}.png", dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    main()
