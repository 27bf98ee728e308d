"""Runs through the call of a worker."""

from __future__ import annotations

import pytest

from beliefstream.inference.network.weights import load
from beliefstream.inference.update.updater import Updater
from research.evaluation.adversarial.sequences import findings
from research.evaluation.adversarial.sequences.findings import Solutions, run_findings


def test_exact_posteriors_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known: Solutions = {}
    updater = Updater(load())
    first = run_findings(updater, 11, 4, ["ordinary"], known=known)
    assert known.keys() == {("ordinary", 0), ("ordinary", 1)}
    monkeypatch.setattr(findings, "solved", None)  # another call would fail
    second = run_findings(updater, 11, 4, ["ordinary"], known=known)
    assert [each.checked for each in first] == [each.checked for each in second]
    assert [each.number for each in first] == [0, 1]


def test_a_belief_about_ordinary_reports_is_near_and_says_so() -> None:
    (found,) = run_findings(Updater(load()), 1, 5, ["ordinary"])
    assert [each.after for each in found.checked] == [14, 27, 40]
    assert all(each.decided and each.distance.value < 0.05 and each.quality > 0.9 for each in found.checked)
    assert abs(found.evidence_error) < 0.2


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        run_findings(Updater(load()), 1, 0, ["nonsense"])
