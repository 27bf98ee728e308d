"""Trained weights of the published form: a `.safetensors` file a task, each with its card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from beliefstream.inference.likelihood.weight_files import parsed, reading, write
from beliefstream.inference.training.card import hardware, rows
from research.paper.form.network import PublishedForm, Shape
from research.paper.form.training import Training
from research.paper.report import Table, markdown

SHIPPED = Path(__file__).with_name("weights")


def save(network: PublishedForm, task: str, folder: Path) -> Path:
    """Write the weights of a task with its name and the sizes, and return the path."""
    path = folder / f"{task}.safetensors"
    write(network, path, {"task": task, "shape": json.dumps(asdict(network.shape))})
    return path


def load(task: str, folder: Path = SHIPPED) -> PublishedForm:
    """Load the weights of a task.

    Raises:
        FileNotFoundError: there are none.
        ValueError: they are of another task, incomplete, of another shape, or not finite.
    """
    path = folder / f"{task}.safetensors"
    if not path.exists():
        raise FileNotFoundError(
            f"weights: no file {path}; python -m research.paper --train --task {task} --out {folder} writes it"
        )
    with reading(path):
        described, tensors = parsed(path.read_bytes())
        if described.get("task") != task:
            raise ValueError(f"they are of the task {described.get('task')!r}, not of {task!r}")
        network = PublishedForm(Shape(**json.loads(described["shape"])))
        network.load_state_dict(tensors)
    return network.eval()


def card(training: Training, table: Table, command: str) -> str:
    """Return the model card: what was trained, where, how long, and the scores on problems never seen."""
    plan, parameters = training.plan, sum(part.numel() for part in training.network.parameters())
    shape = training.network.shape
    facts: Mapping[str, str] = {
        "network": f"width {shape.width}, {shape.layers} layers, {shape.heads} heads, {shape.hidden} hidden units",
        "parameters": f"{parameters:,}",
        "seed": str(plan.seed),
        "steps": f"{plan.steps:,}",
        "problems": f"{sum(plan.problems(plan.count(step)) for step in range(plan.steps)):,}",
        "components": ", ".join(map(str, sorted(set(plan.counts)))),
        "optimiser": f"Adam, rate {plan.learning_rate:g} after {plan.warm_up} steps of warm-up, cosine",
        "hardware": hardware("cpu"),
        "processor time": f"{training.seconds:.0f} s of one core",
    }
    return f"""\
# {plan.task}

The published form of the Distribution Transformer for the task `{plan.task}`. See `docs/paper.md`.

| | |
|---|---|
{rows(facts)}

## {table.title}

{markdown(table)}

## Command

    {command}

A run that was stopped goes on from its checkpoint. Batches follow from the seed and the step. Sums differ in their
last digits between processors and versions of PyTorch, so other machines get other weights of the same quality.
"""
