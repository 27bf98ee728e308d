"""`python -m research.evaluate --family adversarial`: checks that answers report their error on unusual problems."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from beliefstream.schemas import Mixture
from beliefstream.streams.cli.output import console
from beliefstream.streams.cli.setup import CommandError
from research.evaluation.tables import number

if TYPE_CHECKING:
    from beliefstream.inference.update.updater import Updater
    from beliefstream.streams.settings import Settings
    from research.evaluation.adversarial.mixtures import Mixture as Answered

LIBRARY, WORKER = "library", "worker"
SETTINGS = (LIBRARY, WORKER)
FIGURES = ("mean", "median", "worst")
COUNTS = ("dishonest", "false_alarms", "undecided", "faults")


def adversarial(
    settings: Settings,
    setting: str,
    count: int,
    seed: int,
    only: str | None,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Print the tables of families and of runs, and return the content for JSON.

    Raises:
        CommandError: a family or the settings are unknown.
    """
    from research.evaluation.adversarial.report import report
    from research.evaluation.adversarial.run import families_of, findings
    from research.evaluation.adversarial.sequences import report as sequences
    from research.evaluation.adversarial.sequences.findings import run_findings
    from research.evaluation.adversarial.sequences.kinds import KINDS, SEQUENCES

    try:
        names = families_of([name.strip() for name in only.split(";")] if only else None)
    except ValueError as error:
        raise CommandError(f"--only: {error}") from None
    kinds = [name for name in names if name in KINDS]
    single = [name for name in names if name not in KINDS]
    content: dict[str, Any] = {
        "settings": setting,
        "seed": seed,
        "count": count,
        "weights": settings.weights,
    }
    used = updater(settings, setting)
    if single:
        content |= report(findings(used, count, seed, single, refused, progress))
    if kinds:
        content[SEQUENCES] = sequences.report(run_findings(used, count, seed, kinds, progress))
    if single:
        show(content)
    if kinds:
        sequences.show(content[SEQUENCES], f"Sequences, settings {setting}, seed {seed}")
    return content


def updater(settings: Settings, setting: str) -> Updater:
    """Return the library's updater, or that of a worker with these settings; raises CommandError for another name."""
    if setting == WORKER:
        from beliefstream.streams.worker.updater import make_updater

        return make_updater(settings)
    if setting != LIBRARY:
        raise CommandError(f"--settings: expected {' or '.join(SETTINGS)}, got {setting!r}")
    from beliefstream.inference.network.weights import load
    from beliefstream.inference.update.updater import Updater

    return Updater(load(settings.weights))


def refused(answer: Answered) -> str:
    """Return why the posterior schema rejects an answer; empty if it accepts it."""
    try:
        Mixture(weights=answer.weights, means=answer.means, covariances=answer.covariances)
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
    return ""


def show(content: dict[str, Any]) -> None:
    """Print a row for each family and one for all, followed by notes."""
    from rich.table import Table

    table = Table(title=f"KL(exact ‖ answer), nats, settings {content['settings']}, seed {content['seed']}")
    table.add_column("family", no_wrap=True)
    headings = (
        "problems",
        *FIGURES,
        *(name.replace("_", " ") for name in COUNTS),
        "near",
        "sample efficiency",
        "ms",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, row in content["families"].items():
        table.add_row(name, *_cells(row))
    table.add_section()
    table.add_row("all", *_cells(content))
    console().print(table)
    print(
        "dishonest: more than .5 nats off while the sample efficiency is above .5; "
        "false alarm: sample efficiency below .5 though less than .05 nats off;\n"
        "near: of answers with an efficiency of .9 or more, the share at most .1 nats off; undecided: the exact "
        "posterior's own error is too large; faults: not positive definite, or refused by the schema"
    )
    worst = number(content["batch_difference_worst"] or 0.0)
    print(
        f"in a batch and alone: {content['batch_differences']} of {content['alone']} answers differ, by {worst} at most"
    )


def _cells(row: dict[str, Any]) -> list[str]:
    none = "-" if row["undecided"] == row["problems"] else "∞"
    figures = [number(row[name]) if row[name] is not None else none for name in FIGURES]
    counts = [str(row[name]) for name in COUNTS]
    near = "-" if row["near"] is None else f"{row['near']:.1%}"
    return [
        str(row["problems"]),
        *figures,
        *counts,
        near,
        f"{row['sample_efficiency']:.2f}",
        f"{row['milliseconds']:.1f}",
    ]
