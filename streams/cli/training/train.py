"""`beliefstream train`."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beliefstream.streams.cli.options import whole_numbers
from beliefstream.streams.cli.output import counted, loading, progress_bar
from beliefstream.streams.cli.setup import CommandError, cache_directory, settings_for

if TYPE_CHECKING:
    from beliefstream.inference.training.run import Run
    from beliefstream.inference.training.train import Plan, Training

REPORT_EVERY = 20  # steps; --stop-after ends the training then, a signal after any step
SAVE_EVERY = 500  # steps
SMOOTHING = 0.95  # of the losses shown
COMPONENTS = "8,16,32"  # of the answers evaluated for the card


class Device(StrEnum):
    """Where to train."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Form(StrEnum):
    """What is learned for a problem."""

    likelihood = "likelihood"
    published = "published"


def _plan_option(default: str, help: str, **more: Any) -> Any:
    """Return an option for a field of Plan; --help cannot import Plan, and a test compares the defaults."""
    return typer.Option(show_default=default, help=help, rich_help_panel="Plan", **more)


def train(
    problem: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:NAME", help="learn the likelihood of this problem from its simulator instead"
        ),
    ] = None,
    form: Annotated[
        Form, typer.Option(help="with --problem: learn its likelihood, or its posterior by one pass")
    ] = Form.likelihood,
    family: Annotated[str | None, _plan_option("mixed", "of problems: mixed or planar")] = None,
    dimensions: Annotated[
        str | None, _plan_option("2,1,2,3,2,4", "of problems; each batch uses the next one", metavar="D,...")
    ] = None,
    steps: Annotated[int | None, _plan_option("18000", "batches", min=1)] = None,
    batch: Annotated[int | None, _plan_option("512", "problems a step", min=1)] = None,
    tokens: Annotated[
        str | None, _plan_option("8", "components of the answers, in turn, at least 8", metavar="K,...")
    ] = None,
    learning_rate: Annotated[float | None, _plan_option("0.002", "highest learning rate")] = None,
    warm_up: Annotated[int | None, _plan_option("300", "steps to the highest learning rate", min=1)] = None,
    weight_decay: Annotated[float | None, _plan_option("0.0001", "of AdamW", min=0)] = None,
    seed: Annotated[int | None, _plan_option("0", "of weights and problems", min=0)] = None,
    initial: Annotated[
        str | None, _plan_option("random", "initial weights, by name or a .safetensors file")
    ] = None,
    width: Annotated[int | None, _plan_option("32", "of a token", min=1)] = None,
    layers: Annotated[int | None, _plan_option("4", "of the network", min=1)] = None,
    heads: Annotated[int | None, _plan_option("4", "of attention; must divide the width", min=1)] = None,
    hidden: Annotated[int | None, _plan_option("32", "units of the gates", min=1)] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="read at the start, if it exists, and written during the training",
            show_default="in the user's cache directory",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="for weights and model card; not written if absent")
    ] = None,
    device: Annotated[Device, typer.Option(help="where to train")] = Device.auto,
    threads: Annotated[
        int | None, typer.Option(min=1, help="on the CPU", show_default="one for each core")
    ] = None,
    compile: Annotated[bool, typer.Option(help="use torch.compile, which needs a C++ compiler")] = True,
    stop_after: Annotated[
        float | None, typer.Option(metavar="MINUTES", min=0, help="stop and save; the same command continues")
    ] = None,
) -> None:
    """Train the Distribution Transformer, or continue a training; Ctrl-C saves it.

    That waits for the end of a step, of which the first are compiled for a minute; a second Ctrl-C ends at once.
    Writes weights and model card when the plan is complete. Writes a line of JSON every 20 steps to a log beside the
    checkpoint.

    With --problem, small networks learn it: 4000 steps of 1024 simulations, width 48, 2 layers, rate 0.02. With
    --form published: 6000 steps of 128 problems, 8,4,8,16 components, width 48, 3 layers.

    Example: beliefstream train --problem geiger:Geiger --out .
    """
    with loading():
        import torch

        from beliefstream.inference.training.train import Plan, Training
        from beliefstream.inference.update.devices import choose_device

    settings_for()
    if threads is not None:
        torch.set_num_threads(threads)
    sizes = {"width": width, "layers": layers, "heads": heads, "hidden": hidden}
    options = {
        "family": family,
        "dimensions": whole_numbers(dimensions, "--dimensions", 1),
        "steps": steps,
        "batch": batch,
        "tokens": whole_numbers(tokens, "--tokens", 1 if form is Form.published else 8),
        "learning_rate": learning_rate,
        "warm_up": warm_up,
        "weight_decay": weight_decay,
        "seed": seed,
        "initial": initial,
    }
    if problem is None and form is not Form.likelihood:
        raise CommandError("--form: expected --problem MODULE:NAME beside it")
    if problem is not None:
        from beliefstream.streams.cli.training.train_problem import train_problem

        name = problem.replace(":", "-") + ("-published" if form is Form.published else "")
        place = checkpoint or cache_directory() / "training" / f"{name}.pt"
        where = choose_device("cpu" if device is Device.auto else device.value).type
        train_problem(problem, form, {**options, **sizes}, place, where, out, stop_after)
        return
    plan = make_plan(sizes, **options)
    name = f"equivariant-{plan.configuration.width}x{plan.configuration.layers}"
    if plan.tokens != Plan.tokens:
        name += f"-{max(plan.tokens)}"  # tokens
    place = checkpoint or cache_directory() / "training" / f"{name}.pt"
    training = Training(plan, place, choose_device(device.value).type, compile_network=compile)
    if not run(training, place, stop_after):
        return
    print(f"trained {counted(training.step, 'step')} in {training.seconds / 60:.1f} min")
    if out is not None:
        write_weights(training, out, name)


def make_plan(sizes: dict[str, int | None], **changes: Any) -> Plan:
    """Change Plan's defaults where a value is not None; raises CommandError for an impossible combination."""
    from beliefstream.inference.network.transformer import Configuration
    from beliefstream.inference.training.families import FAMILIES
    from beliefstream.inference.training.train import Plan

    configuration = Configuration(**{name: size for name, size in sizes.items() if size is not None})
    if configuration.width % configuration.heads:
        raise CommandError(f"--heads: {configuration.heads} do not divide --width {configuration.width}")
    plan = Plan(
        configuration=configuration, **{name: value for name, value in changes.items() if value is not None}
    )
    if plan.family not in FAMILIES:
        raise CommandError(f"--family: expected {' or '.join(FAMILIES)}, got {plan.family!r}")
    return plan


def run(training: Run[Any], checkpoint: Path, stop_after: float | None) -> bool:
    """Train until the plan is complete or `stop_after` minutes have passed, and return whether it is complete.

    The log of the losses stands beside the checkpoint.
    """
    from beliefstream.inference.training.run import Diverged

    log = checkpoint.with_suffix(".jsonl")
    print(f"checkpoint {checkpoint}, log {log}", file=sys.stderr)
    deadline = time.monotonic() + 60 * stop_after if stop_after is not None else float("inf")
    smoothed: dict[str, float] = {}
    log.parent.mkdir(parents=True, exist_ok=True)
    with _stop_signals() as stopped, log.open("a") as file, progress_bar("steps") as progress:
        task = progress.add_task(
            "train", total=training.plan.steps, completed=training.step, note="the first step takes longest"
        )

        def report(state: dict[str, float]) -> None:
            file.write(json.dumps(state) + "\n")
            file.flush()
            for name, loss in state.items():
                if name.startswith("loss"):
                    dimension = f"{name.removeprefix('loss_')}D" if name != "loss" else ""
                    smoothed[dimension] = SMOOTHING * smoothed.get(dimension, loss) + (1 - SMOOTHING) * loss
            note = " ".join(f"{dimension} {smoothed[dimension]:.3f}" for dimension in sorted(smoothed))
            progress.update(task, completed=int(state["step"]), note=f"loss {note}")
            if time.monotonic() > deadline:
                raise _Stop

        try:
            training.run(report, REPORT_EVERY, SAVE_EVERY, stopped=stopped)
        except _Stop:
            training.save()
        except Exception as error:
            if not stopped or isinstance(error, Diverged):
                raise
            # Ctrl-C in a terminal reaches the compiler of the first step too; the network is of the step before
            print(f"the last step failed: {type(error).__name__}: {error}", file=sys.stderr)
            training.save()
    complete: bool = training.step >= training.plan.steps
    if not complete:
        print(f"stopped at step {training.step} of {training.plan.steps}; the same command continues")
    return complete


class _Stop(Exception):
    """Raised to end a training between two steps."""


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect the first stop signal in the returned list, so that it interrupts no step; a second one interrupts."""
    came: list[int] = []

    def collect(received: int, _: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(received)

    former = {number: signal.signal(number, collect) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def write_weights(training: Training, directory: Path, name: str) -> None:
    """Write weights and model card."""
    from beliefstream.inference.network import weights
    from beliefstream.inference.training import card

    facts = card.facts(training)
    target = directory / f"{name}.safetensors"
    weights.save(training.network, target, facts)
    commands = [
        ("The weights", f"beliefstream train{_given(training.plan)} --out {directory}"),
        (
            "The table",
            f"python -m research.evaluate --family {training.plan.family} --count 512 --components {COMPONENTS} "
            f"--weights {target} --card {target.with_suffix('.md')}",
        ),
    ]
    text = card.model_card(name, facts, commands)
    target.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"wrote {target} and {target.with_suffix('.md').name}")


def _given(plan: Plan) -> str:
    """The options that change the default plan into this one."""
    from dataclasses import asdict

    from beliefstream.inference.training.train import Plan

    ours, defaults = asdict(plan), asdict(Plan())
    ours |= ours.pop("configuration")
    defaults |= defaults.pop("configuration")
    ordered = {name: ours[name] for name in Plan.__annotations__ if name in ours}
    return changed_options(ordered | ours, defaults)


def changed_options(plan: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The options that change a plan's defaults into its fields."""
    options = ""
    for name, value in plan.items():
        if value != defaults[name]:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            options += f" --{name.replace('_', '-')} {text}"
    return options
