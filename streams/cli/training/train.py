"""`beliefstream train`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli.options import whole_numbers
from beliefstream.streams.cli.options.groups import grouped
from beliefstream.streams.cli.output import counted, loading
from beliefstream.streams.cli.setup import CommandError, settings_for
from beliefstream.streams.cli.training.plans import Device, NetworkPlan, NetworkSize, Running, changed_options
from beliefstream.streams.cli.training.running import run

if TYPE_CHECKING:
    from beliefstream.inference.training.train import Plan, Training

COMPONENTS = "8,16,32"  # of the answers evaluated for the card


@grouped
def train(
    stated: NetworkPlan,
    size: NetworkSize,
    running: Running,
    device: Annotated[Device, typer.Option(help="where to train")] = Device.auto,
    compile: Annotated[bool, typer.Option(help="use torch.compile, which needs a C++ compiler")] = True,
) -> None:
    """Train the Distribution Transformer, or continue a training; Ctrl-C saves it.

    That waits for the end of a step, of which the first are compiled for a minute; a second Ctrl-C ends at once.
    Writes weights and model card when the plan is complete. Writes a line of JSON every 20 steps to a log beside the
    checkpoint.

    `train-likelihood` and `train-posterior` learn a problem of your own.

    Example: beliefstream train --dimensions 2 --steps 6000 --out .
    """
    with loading():
        import torch

        from beliefstream.inference.training.train import Plan, Training
        from beliefstream.inference.update.devices import choose_device

    settings_for()
    if running.threads is not None:
        torch.set_num_threads(running.threads)
    plan = make_plan(stated, size)
    name = f"equivariant-{size.width}x{size.layers}"
    if plan.tokens != Plan.tokens:
        name += f"-{max(plan.tokens)}"  # tokens
    place = running.checkpoint_of(name)
    training = Training(plan, place, choose_device(device.value).type, compile_network=compile)
    if not run(training, place, running.stop_after):
        return
    print(f"trained {counted(training.step, 'step')} in {training.seconds / 60:.1f} min")
    if running.out is not None:
        write_weights(training, running.out, name)


def make_plan(stated: NetworkPlan, size: NetworkSize) -> Plan:
    """The plan that the options state; raises CommandError for an impossible one."""
    from beliefstream.inference.network.transformer import Configuration
    from beliefstream.inference.training.families import FAMILIES
    from beliefstream.inference.training.train import Plan

    if size.width % size.heads:
        raise CommandError(f"--heads: {size.heads} do not divide --width {size.width}")
    if stated.family not in FAMILIES:
        raise CommandError(f"--family: expected {' or '.join(FAMILIES)}, got {stated.family!r}")
    dimensions = whole_numbers(stated.dimensions, "--dimensions", 1)
    tokens = whole_numbers(stated.tokens, "--tokens", 8)
    numbers = asdict(stated) | {"dimensions": dimensions, "tokens": tokens}
    return Plan(configuration=Configuration(**asdict(size)), **numbers)


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
    from beliefstream.inference.training.train import Plan

    ours, defaults = asdict(plan), asdict(Plan())
    ours |= ours.pop("configuration")
    defaults |= defaults.pop("configuration")
    ordered = {name: ours[name] for name in Plan.__annotations__ if name in ours}
    return changed_options(ordered | ours, defaults)
