"""`python -m research.ablation`: the table of what each method of the update is worth.

Every row runs in a process of its own, on the same problems and exact posteriors as the row of the whole update.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from beliefstream.inference import native_code
from beliefstream.streams.cli.main import run
from beliefstream.streams.cli.output import console, progress_bar
from beliefstream.streams.cli.setup import CommandError
from research.ablation.methods import METHODS, without
from research.ablation.sets import Fleet, Recorded, Set, chains, hard_problems, paired, updater

WHOLE = "(nothing left out)"
FIGURES = ("mean", "worst", "dishonest", "false_alarms", "rmse", "nll", "poor", "seconds")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def ablation(
    methods: Annotated[
        list[str] | None, typer.Argument(help="to leave out, one at a time; all by default")
    ] = None,
    count: int = typer.Option(67, min=1, help="hard problems of each family"),
    chain_count: int = typer.Option(17, "--chains", min=1, help="chains of each of three kinds"),
    seed: int = typer.Option(..., min=0, help="of the hard problems and the fleet: one that tuned nothing"),
    recording: Annotated[list[str] | None, typer.Option(help="recordings")] = None,
    only: Annotated[list[str] | None, typer.Option(help="sets: hard, chains, fleet, or a recording")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write all figures to this file")] = None,
) -> None:
    """Leave each method of the update out, and print what it costs in accuracy and saves in time."""
    unknown = [name for name in methods or () if name not in METHODS]
    if unknown:
        raise CommandError(f"method: expected one of {', '.join(METHODS)}, got {unknown[0]!r}")
    sets: dict[str, Set] = {
        "hard": hard_problems(count, seed),
        "chains": chains(chain_count, seed),
        "fleet": Fleet(50, seed),
        **{name: Recorded(name) for name in recording or ("plaza1",)},
    }
    sets = {name: sets[name] for name in only or sets}
    torch.set_num_threads(1)
    native_code.prepare()
    found: dict[str, Any] = {}
    for name, measured in sets.items():
        rows = {}
        with progress_bar("rows") as progress:
            task = progress.add_task(name, total=len(methods or METHODS) + 1, note="exact posteriors")
            measured(updater())  # computes them once, for the processes of all rows
            for row in (WHOLE, *(methods or METHODS)):
                progress.update(task, note=row)
                rows[row] = _measured(measured, row)
                progress.advance(task)
        found[name] = rows
        _show(name, rows)
        if json_file is not None:  # after each set, so that an interruption loses one at most
            json_file.write_text(json.dumps(found, indent=2))


def _measured(measured: Set, method: str) -> dict[str, Any]:
    """Figures of a set without a method, from a process that ends with it."""
    context = multiprocessing.get_context("fork")  # which shares the exact posteriors
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(measured, method, sender))
    process.start()
    sender.close()
    try:
        found: dict[str, Any] = receiver.recv()
    except EOFError:
        raise CommandError(f"{method}: its process ended with an error, see above") from None
    finally:
        process.join()
    return found


def _measure(measured: Set, method: str, sender: Any) -> None:
    with ExitStack() as stack:
        if method != WHOLE:
            stack.enter_context(without(method))
        figures, losses = measured(updater())
    sender.send({"figures": figures, "losses": losses})


def _show(name: str, rows: dict[str, Any]) -> None:
    usual = rows[WHOLE]
    figures = [figure for figure in FIGURES if figure in usual["figures"]]
    table = Table(title=name)
    table.add_column("left out", no_wrap=True)
    for heading in ("loss more, nats", *figures):
        table.add_column(heading.replace("_", " "), justify="right")
    for method, row in rows.items():
        more, error = paired(row["losses"], usual["losses"])
        table.add_row(
            method, f"{more:+.4f} ± {error:.4f}", *(f"{row['figures'][figure]:.4g}" for figure in figures)
        )
    console().print(table)


if __name__ == "__main__":
    run(app, "python -m research.ablation", sys.argv[1:])
