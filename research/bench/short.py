"""`python -m research.bench.short`: fails where a worker has lost half of its speed, as a ratio to a bare Faust echo.

`make test` runs it alone, after the tests. Other work on the machine disturbs it, so it measures again before it fails.
"""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from beliefstream.streams.cli.main import run
from beliefstream.streams.cli.setup import CommandError
from research.figures.kept import figure, origin

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
ENTITIES, REPORTS = 300, 40
LEAST = 0.5  # of the ratio of the last release
TRIES = 2


@app.command()
def short(
    json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="write the smaller of two ratios to a file, and compare it with nothing"
        ),
    ] = None,
) -> None:
    """Compare the speed of a worker with that of the last release."""
    if json is not None:
        json.write_text(json_format.dumps({"of_the_echo": min(ratio() for _ in range(TRIES))}))
        return
    last = figure("short", "of_the_echo")
    if last is None:
        raise CommandError("no ratio of the last release is kept: python -m research.figures --only short")
    print(f"last release: {last:.2f} of a bare Faust echo ({origin('short')}); needed: {LEAST * last:.2f}")
    if not is_reached(LEAST * last, ratio):
        raise CommandError("the worker has less than half of the speed of the last release")


def is_reached(least: float, measure: Callable[[], float]) -> bool:
    """Whether one of a few measurements is as large; prints each."""
    for _ in range(TRIES):
        found = measure()
        print(f"now: {found:.2f}", flush=True)
        if found >= least:
            return True
    return False


def ratio() -> float:
    """Observations a second of a worker as a share of those of an agent that only forwards them."""
    from beliefstream.streams.local.broker import EmbeddedBroker
    from research.bench.end_to_end.site import Site
    from research.bench.end_to_end.stream import measure_stream
    from research.bench.end_to_end.workload import in_order

    with EmbeddedBroker() as broker:
        site = Site("embedded", broker.bootstrap_servers)
        return measure_stream(site, in_order(ENTITIES, REPORTS)).of_the_echo


if __name__ == "__main__":
    run(app, "python -m research.bench.short", sys.argv[1:])
