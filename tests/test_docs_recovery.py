"""docs/recovery.md says what its program computes, and the filter keeps to the exact posterior on the way."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="the program draws")
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.updater import make_updater
from docs.recovery_picture import SHOWN, carried, exact_weights, run, table

PAGE = Path(__file__).parent.parent / "docs" / "recovery.md"


def numbers(lines: list[str]) -> np.ndarray:
    """The rows of a table of numbers, (N, 6); its other lines are ignored."""
    rows = [line.strip("| ").split("|") for line in lines if re.match(r"\| \d+ \|", line)]
    return np.array(rows, dtype=np.float64)


def test_the_table_is_that_of_the_program_and_weights_are_the_exact_ones() -> None:
    recording = carried()
    exact, rows = exact_weights(recording), run(make_updater(Settings()), recording)
    np.testing.assert_allclose([row.weight for row in rows], exact, atol=0.03)
    shown = numbers(PAGE.read_text(encoding="utf-8").splitlines())
    computed = numbers(list(table(exact, rows)))
    assert shown[:, 0].tolist() == list(SHOWN)
    np.testing.assert_allclose(shown[:, [1, 2, 5]], computed[:, [1, 2, 5]], atol=0.03)  # weights, and metres
    np.testing.assert_allclose(np.log10(shown[1:, 3]), np.log10(computed[1:, 3]), atol=0.5)  # p-values
