"""`python -m research.sbibm`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

import typer

from beliefstream.streams.cli.main import run
from beliefstream.streams.cli.setup import CommandError, cache_directory, settings_for

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def sbibm(
    task: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="only these tasks", show_default="all eight")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="has sbibm/, a copy of its tasks", show_default="BELIEFSTREAM_DATA"
        ),
    ] = None,
    budget: Annotated[
        list[int] | None,
        typer.Option(min=1000, help="simulations of a training", show_default="10000, 100000"),
    ] = None,
    observations: Annotated[int, typer.Option(min=1, max=10, help="the first so many of each task")] = 3,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="network (unchecked), mixture (checked and refined), samples, learned",
            show_default="samples",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of training and samples")] = 0,
) -> None:
    """Compare our answers with the reference posteriors of sbibm; prints a line of JSON for each answer.

    A training is kept in the user's cache directory, and not repeated.

    Example: python -m research.sbibm --data data --task two_moons --kind network --kind samples
    """
    import torch

    from beliefstream.streams.demo.plaza import RecordingUnavailable
    from research.sbibm.run import BUDGETS, KINDS, TASKS, Kind, measured

    settings_for()
    torch.set_num_threads(1)
    names, kinds = task or list(TASKS), kind or ["samples"]
    for option, given, known in (("--task", names, list(TASKS)), ("--kind", kinds, list(KINDS))):
        if unknown := [each for each in given if each not in known]:
            raise CommandError(f"{option}: expected {', '.join(known)}, got {', '.join(unknown)}")
    checked = cast(list[Kind], kinds)
    numbers = list(range(1, observations + 1))
    try:
        for name in names:
            for size in budget or BUDGETS:
                for row in measured(name, size, numbers, checked, data, cache_directory() / "sbibm", seed):
                    print(json.dumps(asdict(row)), flush=True)
    except RecordingUnavailable as error:
        raise CommandError(str(error)) from error


if __name__ == "__main__":
    run(app, "python -m research.sbibm", sys.argv[1:])
