"""`python -m research.answers`: which method gives the answers, of a fleet and of recordings, as a Markdown table."""

from __future__ import annotations

import json as json_format
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from beliefstream import Posterior, fuse
from beliefstream.streams.cli.main import run
from beliefstream.streams.local.simulated_fleet import simulate
from research.recordings.parts import limited
from research.recordings.readers import READERS, read

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
COLUMNS = {
    "closed form": ("kalman", "linearised"),
    "quadrature": ("quadrature",),
    "the network": ("transformer",),
    "refined": ("refined",),
    "fallback": ("fallback",),
}
"""Columns of the table, and the methods that their posteriors state."""


def cells(posteriors: Sequence[Posterior]) -> list[str]:
    """The number of posteriors after observations, and the share of each column."""
    counts: Counter[str] = Counter(posterior.quality.method for posterior in posteriors)
    total = counts.total() - counts["prior"]
    shares = (100 * sum(counts[method] for method in methods) / total for methods in COLUMNS.values())
    return [f"{total:,}".replace(",", " "), *(f"{share:.1f} %" for share in shares)]


@app.command()
def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECORDING]...", help=f"{', '.join(READERS)}; none: all"),
    ] = None,
    share: Annotated[
        float, typer.Option(help="of the scored part of each recording; what comes before counts too")
    ] = 0.1,
    entities: Annotated[int, typer.Option(help="of the fleet, each with two reports a second")] = 50,
    duration: Annotated[float, typer.Option(help="seconds of the fleet")] = 60.0,
    data: Annotated[Path | None, typer.Option(metavar="FOLDER", show_default="of BELIEFSTREAM_DATA")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="also write the rows to a file")] = None,
) -> None:
    """Fuse each with the settings of a worker, and print a row of it."""
    rows: dict[str, list[str]] = {}

    def show(name: str, posteriors: Sequence[Posterior]) -> None:
        rows[name] = cells(posteriors)
        print(f"| {' | '.join((name, *rows[name]))} |", flush=True)

    print(f"| | posteriors | {' | '.join(COLUMNS)} |\n|---|{'---:|' * (1 + len(COLUMNS))}")
    fleet = simulate(entities, duration, 2.0, 0)
    show("simulated fleet", fuse(fleet.observations, fleet.sensors, fleet.model))
    for name in names or READERS:
        recording = limited(read(name, data=data), share)
        show(name, fuse(recording.observations, recording.sensors, recording.models))
    if json is not None:
        json.write_text(json_format.dumps({"rows": rows}))


if __name__ == "__main__":
    run(app, "python -m research.answers", sys.argv[1:])
