"""Writes the accuracy of trained weights into their model card, which `beliefstream train` began."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from research.evaluation.report import ALL, Comparison

HEADING, NEXT = "## Accuracy\n", "## Commands\n"


def write_accuracy(card: Path, evaluated: Sequence[Comparison]) -> None:
    """Replace what a card says of the accuracy.

    Raises:
        ValueError: the file is no model card.
    """
    before, heading, rest = card.read_text(encoding="utf-8").partition(HEADING)
    _, following, after = rest.partition(NEXT)
    if not following:
        raise ValueError(f"{card}: expected a model card, with {HEADING.strip()!r} before {NEXT.strip()!r}")
    card.write_text(f"{before}{heading}\n{accuracy(evaluated)}\n\n{following}{after}", encoding="utf-8")


def accuracy(evaluated: Sequence[Comparison]) -> str:
    """Return the table of an evaluation in Markdown."""
    lines = [
        f"KL(exact ‖ answer) in nats on {evaluated[0].count} held-out problems of each dimension d, family "
        f"`{evaluated[0].family}`.",
        "",
        "| d | method | mean | ± | median | 90 % | worst |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for comparison in evaluated:
        for row in comparison.rows([ALL]):
            values = (row.mean, row.standard_error, row.median, row.ninetieth, row.worst)
            numbers = " | ".join("" if value != value else f"{value:.4f}" for value in values)
            lines.append(f"| {comparison.dimension} | {row.method} | {numbers} |")
    unresolved = sum(int(comparison.unresolved.sum()) for comparison in evaluated)
    if unresolved:
        lines += ["", f"{unresolved} problems are finer than the grid of the exact posterior."]
    return "\n".join(lines)
