"""`python -m research.evaluate`."""

from __future__ import annotations

import importlib.util
import json as json_format
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beliefstream.streams.cli.main import run
from beliefstream.streams.cli.options import whole_numbers
from beliefstream.streams.cli.output import progress_bar
from beliefstream.streams.cli.setup import CommandError, cache_directory, settings_for

if TYPE_CHECKING:
    from beliefstream.inference.network.transformer import DistributionTransformer
    from beliefstream.inference.update.settings import UpdateSettings
    from research.evaluation.methods import ComparedMethod
    from research.evaluation.progress import Progress
    from research.evaluation.report import Comparison

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
MOST_DIMENSIONS = 9


@app.command()
def evaluate(
    family: Annotated[
        str,
        typer.Option(
            help="of problems: mixed or planar; adversarial: --count hard problems of each of many families; "
            "turns: --entities that turn, over --steps"
        ),
    ] = "mixed",
    dimensions: Annotated[
        str, typer.Option(metavar="D,...", help="of the state; the shipped weights were trained up to 4")
    ] = "1,2,3,4",
    count: Annotated[
        int, typer.Option(min=1, help="problems of each dimension; published figures use 2000")
    ] = 256,
    components: Annotated[
        str, typer.Option(metavar="K,...", help="of the network's answers, each at least 8")
    ] = "8,16,32",
    particle_problems: Annotated[
        int, typer.Option(min=1, help="problems of each dimension that the particle filters solve too")
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
            help="cache of the exact posteriors, each of which takes about a second",
            show_default="in the user's cache directory",
        ),
    ] = None,
    calibration: Annotated[
        int, typer.Option(min=0, help="further problems of each dimension, for ranks and coverage")
    ] = 10_000,
    steps: Annotated[
        int, typer.Option(min=0, help="of a simulated run of many entities, which checks coverage over time")
    ] = 1000,
    entities: Annotated[int, typer.Option(min=2, help="of that run")] = 100,
    front: Annotated[
        bool, typer.Option("--front", help="only speed against accuracy in the plane, of all shipped weights")
    ] = False,
    gain: Annotated[
        bool,
        typer.Option(
            "--gain", help="only what training brings: an untrained network beside all shipped, or --weights"
        ),
    ] = False,
    seed: Annotated[
        int, typer.Option(min=0, help="of the problems, and of turns; 0 to 99 for mixed and planar")
    ] = 0,
    settings: Annotated[
        str,
        typer.Option(help="for adversarial problems, turns and --gain: those of the library or of a worker"),
    ] = "library",
    particles: Annotated[
        int,
        typer.Option(min=0, help="for turns: particles a track that stand for the exact posterior; 0: none"),
    ] = 0,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="FAMILY;...",
            help="only these adversarial families, by name; sequences: all kinds of runs",
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="write only the accuracy into this model card of the weights"),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write all figures, and those of every problem")
    ] = None,
    plots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="with --front: write a picture; needs matplotlib")
    ] = None,
) -> None:
    """Compare the network, the checked update and classical filters with exact posteriors.

    The figure is KL(exact ‖ answer) in nats, on problems not used in training; smaller is better. Exact posteriors are
    computed once and cached.

    Adversarial problems have a separate oracle. Their figures also say whether answers report their own error.

    Example: python -m research.evaluate --dimensions 1,2,3,4 --count 2000 --json evaluation.json
    """
    import torch

    if plots is not None and not front:
        raise CommandError("--plots needs --front")
    if plots is not None and importlib.util.find_spec("matplotlib") is None:
        raise CommandError("--plots needs matplotlib: pip install 'beliefstream[demo]'")
    chosen = settings_for(weights=weights)
    if family == "adversarial":
        from research.evaluation.adversarial.command import adversarial

        torch.set_num_threads(chosen.threads)
        with progress_of("") as progress:
            write(adversarial(chosen, settings, count, seed, only, progress), json)
        return
    if family == "turns":
        from research.evaluation.turns.command import turns

        torch.set_num_threads(chosen.threads)
        with progress_of("") as progress:
            write(turns(chosen, settings, (steps, entities), seed, particles, progress), json)
        return
    from research.evaluation.problems import LAST_SEED

    if seed > LAST_SEED:
        raise CommandError(f"--seed: expected 0 to {LAST_SEED} for the family {family}, got {seed}")
    if seed and (front or card is not None):
        raise CommandError(f"--seed: expected 0 with --front and --card, got {seed}")
    sizes = whole_numbers(components, "--components", 8)
    plan = EvaluationPlan(
        family=family,
        dimensions=chosen_dimensions(family, dimensions),
        count=count,
        costly=particle_problems,
        components=sizes,
        calibration=calibration,
        run=(steps, entities),
        exact=exact or cache_directory() / "exact",
        plots=plots,
        seed=seed,
    )
    torch.set_num_threads(1 if front else chosen.threads)
    if card is not None:
        write_card(plan, chosen.weights, card)
        return
    if gain:
        from research.evaluation.adversarial.command import updater

        write(training_gain(plan, weights, updater(chosen, settings).settings), json)
        return
    write(speed_front(plan, weights) if front else everything(plan, chosen.weights), json)


def write(content: dict[str, Any], path: Path | None) -> None:
    """Write the content as JSON to the file, if there is one."""
    if path is not None:
        path.write_text(json_format.dumps(content, allow_nan=False), encoding="utf-8")


@dataclass(frozen=True)
class EvaluationPlan:
    """The validated options of an evaluation."""

    family: str
    dimensions: tuple[int, ...]
    count: int
    costly: int | None
    components: tuple[int, ...]
    calibration: int
    run: tuple[int, int]  # steps and entities
    exact: Path
    plots: Path | None
    seed: int

    def exact_file(self, dimension: int) -> Path:
        """The file with the exact posteriors of the family in this dimension."""
        seed = f"-{self.seed}" if self.seed else ""
        return self.exact / f"{self.family}-{dimension}{seed}.pt"


def everything(plan: EvaluationPlan, weights: str) -> dict[str, Any]:
    """Print comparisons, calibration and long run, and return the content for JSON."""
    from beliefstream.inference.network.weights import load
    from beliefstream.inference.update.updater import Updater, UpdateSettings
    from research.evaluation import long_run, tables
    from research.evaluation.calibration import calibrate
    from research.evaluation.methods import baselines, gaussian_sum, ours

    network = load(weights)
    compared = comparisons([*ours(network, plan.components), *baselines()], plan)
    tables.show(compared)
    content: dict[str, Any] = {"weights": weights, "comparisons": [found.as_dict() for found in compared]}
    if plan.calibration:
        methods = [*ours(network, plan.components[:1]), gaussian_sum()]
        with progress_of("problems") as progress:
            calibrated = [
                found
                for dimension in plan.dimensions
                for found in calibrate(methods, dimension, plan.calibration, plan.family, progress=progress)
            ]
        tables.show_calibration(calibrated)
        content["calibration"] = [found.as_dict() for found in calibrated]
    if plan.run[0]:
        updater = Updater(network, settings=UpdateSettings(components=plan.components[0]))
        with progress_of("steps") as progress:
            run = long_run.run(updater, *plan.run, progress=lambda *at: progress("run", *at))
        tables.show_run(run)
        content["run"] = run.as_dict()
    return content


def speed_front(plan: EvaluationPlan, weights: str | None) -> dict[str, Any]:
    """Print and plot speed against accuracy, of some or all shipped weights, and return the content for JSON."""
    from research.evaluation import tables
    from research.evaluation.front import DIMENSION, front
    from research.evaluation.report import plain

    networks, cache = chosen_networks(weights), plan.exact_file(DIMENSION)
    with progress_of("problems") as progress:
        points = front(networks, plan.count, plan.costly, plan.family, plan.components[0], cache, progress)
    tables.show_front(points)
    if plan.plots is not None:
        from research.evaluation import plots

        print(f"plots: {plots.front(points, plan.plots)}")
    return {"front": [plain(point) for point in points]}


def training_gain(plan: EvaluationPlan, weights: str | None, settings: UpdateSettings) -> dict[str, Any]:
    """Print what training brings to answers, and return the content for JSON; the last network gives the size."""
    from research.evaluation import tables
    from research.evaluation.gain import UNTRAINED, gain, untrained
    from research.evaluation.report import plain

    networks = chosen_networks(weights)
    networks = {UNTRAINED: untrained(list(networks.values())[-1]), **networks}
    with progress_of("problems") as progress:
        found = [
            row
            for d in plan.dimensions
            for row in gain(
                networks, settings, d, plan.count, plan.family, plan.seed, plan.exact_file(d), progress
            )
        ]
    tables.show_gain(found)
    return {"gain": [plain(row) for row in found]}


def chosen_networks(weights: str | None) -> dict[str, DistributionTransformer]:
    """These weights, or all shipped ones, by name."""
    from beliefstream.inference.network.weights import load, path_of

    shipped = sorted(path.stem for path in path_of().parent.glob("*.safetensors"))
    return {Path(name).stem: load(name) for name in ([weights] if weights else shipped)}


def chosen_dimensions(family: str, dimensions: str) -> tuple[int, ...]:
    """Parse the dimensions of an option; raises CommandError for an unknown family or dimension."""
    from beliefstream.inference.training.families import FAMILIES

    if family not in FAMILIES:
        raise CommandError(f"--family: expected {' or '.join(FAMILIES)}, got {family!r}")
    found = whole_numbers(dimensions, "--dimensions", 1)
    if max(found) > MOST_DIMENSIONS:
        raise CommandError(f"--dimensions: expected 1 to {MOST_DIMENSIONS}, got {dimensions!r}")
    return found


def comparisons(methods: Sequence[ComparedMethod], plan: EvaluationPlan) -> list[Comparison]:
    """Compare the methods in each dimension, with a progress bar."""
    from research.evaluation.report import compare

    with progress_of("problems") as progress:
        return [
            compare(
                methods,
                dimension,
                plan.count,
                plan.costly,
                plan.family,
                cache=plan.exact_file(dimension),
                progress=progress,
                seed=plan.seed,
            )
            for dimension in plan.dimensions
        ]


def write_card(plan: EvaluationPlan, weights: str, path: Path) -> None:
    """Write the accuracy of the network alone, as in a worker, and of the Gaussian sum into a model card."""
    from beliefstream.inference.network.weights import load
    from research.evaluation.card import write_accuracy
    from research.evaluation.methods import gaussian_sum, ours

    write_accuracy(path, comparisons([*ours(load(weights), plan.components), gaussian_sum()], plan))
    print(f"wrote the accuracy into {path}")


@contextmanager
def progress_of(unit: str) -> Iterator[Progress]:
    """A progress bar for several items."""
    with progress_bar(unit) as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, note="")
            bar.update(tasks[what], completed=done)

        yield progress


if __name__ == "__main__":
    run(app, "python -m research.evaluate", sys.argv[1:])
