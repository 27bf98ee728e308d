"""Report of the sequences as JSON and as a table, by kind and in total."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from research.evaluation.adversarial.report import DISHONEST, FALSE_ALARM, finite
from research.evaluation.adversarial.sequences.findings import Checked, RunFinding
from research.evaluation.tables import number

UNTOLD = 0.05  # nats by which a divergence may exceed the reported error
NATS = "mean", "median", "worst", "reported"
NOTES = """\
nats at the end of a run; dishonest: runs that are at some checkpoint more than .5 nats off while the quality is above
.5; too low: checkpoints at which the reported error is more than .05 nats too low; false alarms: runs with a quality
below .5 at less than .05 nats; recovery: updates, median and worst, from where the exact belief moves until the belief
is within .5 nats of it; never: such moves after which it never is"""


def is_dishonest(checked: Checked) -> bool:
    off, quality = DISHONEST
    return checked.decided and checked.distance.value > off and checked.quality > quality


def is_false_alarm(checked: Checked) -> bool:
    off, quality = FALSE_ALARM
    return checked.decided and checked.distance.value <= off and checked.quality < quality


def is_too_low(checked: Checked) -> bool:
    """Whether the reported error is too low."""
    return checked.decided and checked.distance.value > checked.accumulated_error + UNTOLD


def row(findings: Sequence[RunFinding]) -> dict[str, Any]:
    """Return statistics of runs; `dishonest` and `false_alarms` count runs, `too_low` is a share of the checkpoints.

    Divergences are those of the last beliefs, and `reported` is the median of the errors that these report. `recovery`
    is in updates; `never` counts moves after which a belief never recovers.
    """
    checked = [each for finding in findings for each in finding.checked]
    decided = [each for each in checked if each.decided]
    last = [finding.checked[-1] for finding in findings]
    ends = np.array([each.distance.value for each in last if each.decided] or [math.nan])
    moves = [at for finding in findings for at in finding.recovery]
    recovered = [at for at in moves if at is not None]
    return {
        "runs": len(findings),
        "checkpoints": len(checked),
        "undecided": len(checked) - len(decided),
        "dishonest": sum(any(map(is_dishonest, finding.checked)) for finding in findings),
        "too_low": sum(map(is_too_low, checked)) / max(len(decided), 1),
        "false_alarms": sum(any(map(is_false_alarm, finding.checked)) for finding in findings),
        "recovery": {
            "moves": len(moves),
            "median": finite(np.median(recovered)) if recovered else None,
            "worst": max(recovered, default=None),
            "never": len(moves) - len(recovered),
        },
        "mean": finite(ends.mean()),
        "median": finite(np.median(ends)),
        "worst": finite(ends.max()),
        "reported": finite(np.median([each.accumulated_error for each in last])),
        "evidence_error": finite(np.median([finding.evidence_error for finding in findings])),
        "milliseconds": finite(1e3 * np.mean([finding.seconds for finding in findings])),
        "exact_seconds": finite(np.mean([finding.exact_seconds for finding in findings])),
    }


def report(findings: Sequence[RunFinding]) -> dict[str, Any]:
    """Return all results: in total, by kind, and of each run with its checkpoints."""
    kinds = list(dict.fromkeys(finding.kind for finding in findings))
    return {
        **row(findings),
        "families": {kind: row([f for f in findings if f.kind == kind]) for kind in kinds},
        "each": [_single(finding) for finding in findings],
    }


def _single(finding: RunFinding) -> dict[str, Any]:
    return {
        "family": finding.kind,
        "number": finding.number,
        "dishonest": any(map(is_dishonest, finding.checked)),
        "recovery": finding.recovery,
        "evidence_error": finite(finding.evidence_error),
        "checkpoints": [
            {
                "after": each.after,
                "divergence": finite(each.distance.value),
                "error": finite(each.distance.error),
                "sample_efficiency": finite(each.sample_efficiency),
                "accumulated_error": finite(each.accumulated_error),
                "decided": each.decided,
            }
            for each in finding.checked
        ],
    }


def show(content: dict[str, Any], title: str) -> None:
    """Print a row for each kind and one for all, followed by notes."""
    from rich.table import Table

    from beliefstream.streams.cli.output import console

    table = Table(title=title)
    table.add_column("kind of run", no_wrap=True)
    for heading in ("runs", *NATS, "dishonest", "too low", "false\nalarms", "recovery", "never"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, row in content["families"].items():
        table.add_row(name, *_cells(row))
    table.add_section()
    table.add_row("all", *_cells(content))
    console().print(table)
    print(NOTES)
    print(
        f"undecided: {content['undecided']} of {content['checkpoints']} checkpoints; "
        f"{content['milliseconds']:.1f} ms an update, {content['exact_seconds']:.1f} s a run for the exact posteriors"
    )


def _cells(row: dict[str, Any]) -> list[str]:
    nats = ["∞" if row[name] is None else number(row[name]) for name in NATS]
    recovery = row["recovery"]
    updates = "-" if recovery["worst"] is None else f"{recovery['median']:g} / {recovery['worst']}"
    never = f"{recovery['never']} of {recovery['moves']}" if recovery["moves"] else "-"
    told = f"{row['too_low']:.0%}", str(row["false_alarms"])
    return [str(row["runs"]), *nats, str(row["dishonest"]), *told, updates, never]
