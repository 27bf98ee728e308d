"""Fuses recordings, and scores the posteriors beside those of classical filters."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.progress import Progress
from rich.table import Table

from beliefstream.streams.bridges.posterior_tables import open_posteriors
from beliefstream.streams.cli.output import console, counted, progress_bar
from beliefstream.streams.definitions import own_code
from beliefstream.streams.scores import Row, score
from beliefstream.streams.scores.methods import OURS, ScoredMethod
from beliefstream.streams.scores.recording import Recording
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.updater import make_updater

LENGTHS = (("RMSE", "rmse"), ("median", "median"), ("99 %", "error99"))
COVERAGES = (("in 50 %", "coverage50"), ("in 90 %", "coverage90"), ("in 99 %", "coverage99"))


def fuse_recordings(
    settings: Settings,
    recordings: Sequence[Recording],
    methods: Sequence[ScoredMethod] | None = None,
    out: Path | None = None,
    as_json: bool = False,
) -> None:
    """Fuse recordings one after the other, and print scores of the posteriors.

    A table, or JSON lines, has the classical methods too, if any. Posteriors are written to `out`.
    """
    own_code.load(settings.measurements)
    updater, rows, sent = make_updater(settings), list[Row](), 0
    with progress_bar("posteriors") as progress, open_posteriors(out) if out else nullcontext() as file:
        for recording in recordings:
            tick = ticks(progress, recording)
            posteriors: list[bytes] = []
            found = score(
                recording,
                updater,
                tick,
                lambda fused, kept=posteriors: kept.append(fused.to_json()),  # type: ignore[misc]
                tuple(methods or ()),
            )
            if file is not None:
                for posterior in posteriors:
                    file.write(posterior)
            sent += len(posteriors)
            rows += found
    ours = [row for row in rows if row.method == OURS]
    said = sys.stderr if as_json else sys.stdout
    for row in ours:
        print(f"{row.recording}: {row.updates_per_second:.0f} posteriors/s", file=said)
    print(f"{counted(sent, 'posterior')}, one instant after the other", file=said)
    if as_json:
        for row in rows:
            print(json.dumps(row.to_dict()))
    elif methods is not None:
        _show(recordings, rows)


def ticks(progress: Progress, recording: Recording) -> Callable[[str, int], None]:
    """Return a callback that shows the progress of each method; its bar appears when it starts."""
    tasks: dict[str, object] = {}

    def tick(method: str, total: int) -> None:
        if method not in tasks:
            tasks[method] = progress.add_task(f"{recording.name}: {method}", total=total, note="")
        progress.advance(tasks[method])  # type: ignore[arg-type]

    return tick


def _show(recordings: Sequence[Recording], rows: Sequence[Row]) -> None:
    table = Table("recording", "method", title="against the truth, or each next report where it is unknown")
    lengths, coverages = ([name for name, _ in each] for each in (LENGTHS, COVERAGES))
    for heading in ("cases", *lengths, "NLL", "over ours", *coverages, "energy", "updates/s", "lost"):
        table.add_column(heading, justify="right")
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        table.add_row(*_cells(row), end_section=following is None or following.method == OURS)
    console().print(table)
    units = sorted({recording.model.coordinates[0].unit for recording in recordings})
    print(
        f"errors and energy score in {', '.join(units)}; NLL in nats; lost: how often an error grew for good"
    )


def _cells(row: Row) -> list[str]:
    return [
        row.recording if row.method == OURS else "",
        row.method,
        str(row.cases),
        *(f"{getattr(row, name):.3f}" for _, name in LENGTHS),
        f"{row.negative_log_likelihood:.3f}",
        "" if row.method == OURS else f"{row.over_ours:+.3f} ± {row.over_ours_error:.3f}",
        *(f"{getattr(row, name):.1%}" for _, name in COVERAGES),
        f"{row.energy_score:.3f}",
        f"{row.updates_per_second:.0f}",
        str(row.divergences),
    ]
