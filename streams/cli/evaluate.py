"""`beliefstream evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.common import console, progress_bar, settings_for

if TYPE_CHECKING:
    from inference.evaluation.report import Report
    from inference.transformer import DistributionTransformer


def evaluate(
    count: Annotated[int, typer.Option(min=1, help="problems; one takes about a second")] = 512,
    components: Annotated[int, typer.Option(min=8, max=64, help="of the network's answer")] = 8,
    weights: Annotated[
        str | None,
        typer.Option(help="by name, or a .safetensors file", show_default="of BELIEFSTREAM_WEIGHTS"),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="the same, and every problem")] = None,
) -> None:
    """Compare the network with the exact posterior on held-out problems in the plane, beside classical filters.

    The figure is KL(exact ‖ answer) in nats, smaller is better.

    Example: beliefstream evaluate --count 512 --components 8 --json evaluation.json
    """
    import torch

    from inference.weights import load

    settings = settings_for(weights=weights)
    torch.set_num_threads(settings.threads)
    report = measured(load(settings.weights), components, count)
    _show(report)
    if json is not None:
        json.write_text(report.to_json())


def measured(network: DistributionTransformer, components: int, count: int) -> Report:
    """The report, with a progress bar: the network alone, and as a worker uses it."""
    from inference.evaluation.report import evaluate as run
    from inference.update import Settings as Accuracy
    from inference.update import Updater

    updater = Updater(network, settings=Accuracy(components=components))
    checked = {"checked and refined": lambda prior, seen: updater.update(prior, seen).posterior}

    with progress_bar("problems") as progress:
        task = progress.add_task("evaluate", total=count, note="")
        return run(network, components, count, lambda done, _: progress.update(task, completed=done), checked)


def _show(report: Report) -> None:
    from rich.table import Table

    table = Table("problems", "number", "method", title="KL(exact ‖ answer), nats")
    for heading in ("mean", "± standard error", "median", "90 % quantile", "worst"):
        table.add_column(heading, justify="right")
    subset = None
    for row in report.rows():
        if subset not in (None, row.subset):
            table.add_section()
        first = row.subset != subset
        subset = row.subset
        table.add_row(
            row.subset if first else "",
            str(row.problems) if first else "",
            row.method,
            *(
                "-" if value != value else f"{value:.4f}"
                for value in (row.mean, row.standard_error, row.median, row.ninetieth, row.worst)
            ),
        )
    console().print(table)
    if report.unresolved:
        print(f"{report.unresolved} problems are finer than the grid of the exact posterior")
