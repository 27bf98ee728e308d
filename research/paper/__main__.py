"""`python -m research.paper`."""

from __future__ import annotations

import json as json_format
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli.main import run
from beliefstream.streams.cli.output import console, progress_bar
from beliefstream.streams.cli.setup import CommandError, cache_directory, settings_for

if TYPE_CHECKING:
    from research.paper.form.training import Training
    from research.paper.report import Table
    from research.paper.tasks import Size

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def paper(
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="only this task", show_default="all of them")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="write all figures")] = None,
    count: Annotated[int, typer.Option(min=1, help="problems of tasks with one parameter")] = 1000,
    series: Annotated[int, typer.Option(min=1, help="series of tasks that filter")] = 12,
    steps: Annotated[int, typer.Option(min=3, help="of each series")] = 100,
    particles: Annotated[
        int, typer.Option(min=20_000, help="of the largest particle filter of the volatility")
    ] = 100_000,
    full: Annotated[
        bool, typer.Option("--full", help="100 series of 100 steps, as published; takes half an hour")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="of problems and series")] = 0,
    train: Annotated[
        bool, typer.Option("--train", help="train the weights of the task, then measure it")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="with --train: for weights and model card")
    ] = None,
    stop_after: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0, help="with --train: stop; the same command goes on"),
    ] = None,
) -> None:
    """Repeat the published tasks of "Distribution Transformers" (arXiv 2502.02463), beside the published figures.

    Everything runs on one core, with the shipped weights.

    Example: python -m research.paper --task variance --json variance.json
    """
    import torch

    from research.paper.form.trained import SHIPPED
    from research.paper.tasks import TASKS, Size

    settings_for()
    if task is not None and task not in TASKS:
        raise CommandError(f"--task: expected {', '.join(TASKS)}, got {task!r}")
    torch.set_num_threads(1)
    size = Size(count, 100, 100, particles) if full else Size(count, series, steps, particles)
    if train:
        train_task(task, size, seed, out, stop_after)
        return
    found = []
    with progress_bar("tasks") as progress:
        names = [task] if task else list(TASKS)
        bar = progress.add_task("paper", total=len(names), note="")
        for name in names:
            progress.update(bar, note=name)
            found.append(TASKS[name](size, seed, SHIPPED))
            console().print(rendered(found[-1]))
            for note in found[-1].notes:
                print(note)
            progress.advance(bar)
    if json is not None:
        json.write_text(json_format.dumps([table.as_dict() for table in found]), encoding="utf-8")


def train_task(task: str | None, size: Size, seed: int, out: Path | None, stop_after: float | None) -> None:
    """Train the weights of a task, or go on with a training; then write them and their card."""
    from research.paper.form import trained as weights
    from research.paper.form.training import Training
    from research.paper.tasks import TASKS, TRAINED

    if task not in TRAINED:
        raise CommandError(f"--train: expected --task {' or '.join(TRAINED)}, got {task!r}")
    if out is None:
        raise CommandError("--train: expected --out DIR, for weights and model card")
    make, plan = TRAINED[task]
    training = Training(plan, make(), cache_directory() / "paper" / f"{task}.pt")
    if not trained(training, stop_after):
        print(f"stopped at step {training.step} of {plan.steps}; the same command goes on")
        return
    network = training.network.eval()
    path = weights.save(network, task, out)
    # the scores are of what the file contains
    table = TASKS[task](size, seed, out)
    command = f"python -m research.paper --train --task {task} --out {out}"
    path.with_suffix(".md").write_text(weights.card(training, table, command), encoding="utf-8")
    print(f"wrote {path} and {path.with_suffix('.md').name}")


def trained(training: Training, stop_after: float | None) -> bool:
    """Train with a progress bar, and return whether the plan is complete."""
    with progress_bar("steps") as progress:
        bar = progress.add_task(training.plan.task, total=training.plan.steps, note="")
        return training.run(
            lambda now: progress.update(bar, completed=int(now["step"]), note=f"KL {now['loss']:.5f}"),
            every=1,
            save_every=200,
            stop_after=float("inf") if stop_after is None else stop_after,
        )


def rendered(table: Table) -> object:
    """Return the table for the terminal."""
    from rich.table import Table as RichTable

    from research.paper import report

    shown = RichTable(title=table.title)
    for name in ("", "method"):
        shown.add_column(name)
    for name in (*table.columns, table.unit):
        shown.add_column(name, justify="right")
    for row in table.rows:
        cells = [report.shown(row.figures.get(name)) for name in table.columns]
        shown.add_row(row.label, row.method, *cells, report.shown_time(row))
    return shown


if __name__ == "__main__":
    run(app, "python -m research.paper", sys.argv[1:])
