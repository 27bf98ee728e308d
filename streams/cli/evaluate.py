"""`beliefstream evaluate`."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.common import CommandError, progress_bar, settings_for, whole_numbers
from streams.cli.train import cache_directory

if TYPE_CHECKING:
    from inference.evaluation.calibration import Calibration
    from inference.evaluation.long_run import LongRun
    from inference.evaluation.methods import Method
    from inference.evaluation.report import Comparison, Progress
    from inference.transformer import DistributionTransformer

CARD_DIMENSIONS = (1, 2, 3, 4)
MOST_DIMENSIONS = 9


def evaluate(
    family: Annotated[str, typer.Option(help="of problems: mixed or planar")] = "mixed",
    dimensions: Annotated[
        str, typer.Option(metavar="D,...", help="of the state; the shipped weights never saw more than 4")
    ] = "1,2,3,4",
    count: Annotated[
        int, typer.Option(min=1, help="problems of each dimension; published figures: 2000")
    ] = 256,
    components: Annotated[
        str, typer.Option(metavar="K,...", help="of the network's answers, each at least 8")
    ] = "8,16,32",
    particle_problems: Annotated[
        int, typer.Option(min=1, help="of each dimension, the first of them, for the particle filters")
    ] = 128,
    weights: Annotated[
        str | None,
        typer.Option(help="by name, or a .safetensors file", show_default="of BELIEFSTREAM_WEIGHTS"),
    ] = None,
    exact: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="BELIEFSTREAM_EXACT",
            help="keeps the exact posteriors, which take a second for a problem of each dimension",
            show_default="in the user's cache directory",
        ),
    ] = None,
    calibration: Annotated[
        int, typer.Option(min=0, help="problems of each dimension, other ones, for ranks and coverage")
    ] = 10_000,
    steps: Annotated[
        int, typer.Option(min=0, help="of a simulated run of many entities, whose coverage should stay")
    ] = 1000,
    entities: Annotated[int, typer.Option(min=2, help="of that run")] = 100,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="all figures, and every problem")] = None,
) -> None:
    """Hold the network, the checked update and the classical filters against exact posteriors.

    The figure is KL(exact ‖ answer) in nats on problems that no training saw, smaller is better. Exact posteriors are
    computed once and kept.

    Example: beliefstream evaluate --dimensions 1,2,3,4 --count 2000 --json evaluation.json
    """
    import torch

    from inference.evaluation.methods import baselines, gaussian_sum, ours
    from inference.weights import load
    from streams.cli import evaluation_tables as tables

    settings = settings_for(weights=weights)
    torch.set_num_threads(settings.threads)
    sizes = whole_numbers(components, "--components", 8) or ()
    chosen = chosen_dimensions(family, dimensions)
    network = load(settings.weights)
    content: dict[str, Any] = {"weights": settings.weights}
    methods = [*ours(network, sizes), *baselines()]
    compared = comparisons(methods, family, chosen, count, particle_problems, exact)
    tables.show(compared)
    content["comparisons"] = [comparison.as_dict() for comparison in compared]
    if calibration:
        calibrated = calibrations([*ours(network, sizes[:1]), gaussian_sum()], family, chosen, calibration)
        tables.show_calibration(calibrated)
        content["calibration"] = [found.as_dict() for found in calibrated]
    if steps:
        run = long_run(network, sizes[0], steps, entities)
        tables.show_run(run)
        content["run"] = run.as_dict()
    if json is not None:
        json.write_text(json_format.dumps(content, allow_nan=False), encoding="utf-8")


def chosen_dimensions(family: str, dimensions: str) -> tuple[int, ...]:
    """The dimensions that an option names; raises CommandError for what the family does not have."""
    from inference.training.families import FAMILIES

    if family not in FAMILIES:
        raise CommandError(f"--family: expected {' or '.join(FAMILIES)}, got {family!r}")
    found = whole_numbers(dimensions, "--dimensions", 1) or ()
    if max(found) > MOST_DIMENSIONS:
        raise CommandError(f"--dimensions: expected 1 to {MOST_DIMENSIONS}, got {dimensions!r}")
    return found


def comparisons(
    methods: Sequence[Method],
    family: str,
    dimensions: Sequence[int],
    count: int,
    costly_count: int | None = None,
    exact: Path | None = None,
) -> list[Comparison]:
    """One a dimension, with a progress bar; `exact` is the directory of exact posteriors."""
    from inference.evaluation.report import compare

    directory = exact or cache_directory() / "exact"
    found = []
    with told("problems") as progress:
        for dimension in dimensions:
            cache = directory / f"{family}-{dimension}.pt"
            found.append(
                compare(methods, dimension, count, costly_count, family, cache=cache, progress=progress)
            )
    return found


def calibrations(
    methods: Sequence[Method], family: str, dimensions: Sequence[int], count: int
) -> list[Calibration]:
    """Every method in every dimension, with a progress bar."""
    from inference.evaluation.calibration import calibrate

    with told("problems") as progress:
        return [
            found
            for dimension in dimensions
            for found in calibrate(methods, dimension, count, family, progress=progress)
        ]


def long_run(network: DistributionTransformer, components: int, steps: int, entities: int) -> LongRun:
    """The simulated run, with a progress bar."""
    from inference.evaluation.long_run import run
    from inference.update import Settings, Updater

    with told("steps") as progress:
        updater = Updater(network, settings=Settings(components=components))
        return run(updater, steps, entities, progress=lambda *at: progress("run", *at))


def measured(
    network: DistributionTransformer, components: int, count: int, family: str = "mixed"
) -> list[Comparison]:
    """What a model card shows: the network alone and as a worker uses it, beside the Gaussian sum."""
    from inference.evaluation.methods import gaussian_sum, ours

    return comparisons([*ours(network, [components]), gaussian_sum()], family, CARD_DIMENSIONS, count)


@contextmanager
def told(unit: str) -> Iterator[Progress]:
    """A progress bar, a line for everything that is done."""
    with progress_bar(unit) as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, note="")
            bar.update(tasks[what], completed=done)

        yield progress
