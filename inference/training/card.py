"""Model card of trained weights: training data, cost, and the commands that reproduce them.

`research.evaluate --card` writes the part on accuracy.
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from beliefstream.inference.likelihood.learned.reports import ReportNetwork
from beliefstream.inference.training.train import Plan, Training


def facts(training: Training) -> dict[str, str]:
    """Return the facts of the card's table by name, which are also stored in the file of the weights."""
    plan, configuration = training.plan, training.plan.configuration
    parameters = sum(parameter.numel() for parameter in training.network.parameters())
    shape = (
        f"width {configuration.width}, {configuration.layers} layers, {configuration.heads} heads, "
        f"{configuration.hidden} hidden units per gate"
    )
    return {
        "network": shape,
        "parameters": f"{parameters:,}",
        "family": plan.family,
        "seed": str(plan.seed),
        "steps": f"{training.step:,}, of which {training.skipped} were skipped because their gradient was not finite",
        "batch": f"{plan.batch} problems of {' or '.join(map(str, sorted(set(plan.tokens))))} tokens",
        "initial weights": plan.initial,
        "samples": samples(plan, training.step),
        "optimiser": (
            f"AdamW, rate {plan.learning_rate:g} after {plan.warm_up} steps of warm-up, cosine, "
            f"weight decay {plan.weight_decay:g}"
        ),
        "hardware": hardware(str(training.device)),
        "wall time": f"{training.seconds / 60:.0f} min",
    }


def samples(plan: Plan, steps: int) -> str:
    """Return the number of training problems of each dimension, as text."""
    rounds, rest = divmod(steps, len(plan.dimensions))
    turns = Counter({dimension: n * rounds for dimension, n in Counter(plan.dimensions).items()})
    turns.update(plan.dimensions[:rest])
    return ", ".join(f"{turns[d] * plan.batch:,} in {d}" for d in sorted(turns)) + " coordinates"


def hardware(device: str) -> str:
    """Return the processor of the training run, and the versions of PyTorch and Python."""
    if device.startswith("cuda"):
        where = torch.cuda.get_device_name(torch.device(device))
    else:
        count = torch.get_num_threads()
        where = f"{processor()}, {count} thread{'s' if count > 1 else ''} of {os.cpu_count()}"
    return f"{where}; PyTorch {torch.__version__}, Python {platform.python_version()}"


def processor() -> str:
    """Return the name of the processor, or its architecture if the name is unknown."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def rows(described: Mapping[str, str]) -> str:
    """Return the rows of a table of facts."""
    return "\n".join(f"| {what} | {value} |" for what, value in described.items())


def ranges(network: ReportNetwork) -> str:
    """Return the rows of a table of ranges in training: of parameters, context and data."""
    names, shown = network.names, {"positive": "its logarithm", "unit": "its log odds"}
    labels = [(name, f"parameter, {shown.get(kind, kind)}") for name, kind in names.parameters]
    labels += [(name, "context") for name in names.context] + [(name, "data") for name, _ in names.data]
    low = torch.cat([network.trained_on.low, network.lowest])
    return range_rows(labels, low, torch.cat([network.trained_on.high, network.highest]))


def range_rows(labels: Sequence[tuple[str, str]], low: Tensor, high: Tensor) -> str:
    """Return rows of names, what they are, and the lowest and highest number of each."""
    ends = zip(labels, low.tolist(), high.tolist(), strict=True)
    return "\n".join(f"| {name} | {what} | {low:.6g} | {high:.6g} |" for (name, what), low, high in ends)


def model_card(name: str, described: dict[str, str], commands: Sequence[tuple[str, str]]) -> str:
    """Return the card in Markdown.

    Args:
        name: name of the weights.
        described: facts, from `facts`.
        commands: pairs of purpose and command.
    """
    texts = "\n\n".join(f"{what}:\n\n    {command}" for what, command in commands)
    return f"""\
# {name}

A Distribution Transformer in its equivariant form: a Gaussian-mixture prior and up to six observations in, a
Gaussian-mixture posterior out, in any number of coordinates.

| | |
|---|---|
{rows(described)}

## Accuracy

Not evaluated.

## Commands

{texts}

An interrupted run continues from its checkpoint. Batches depend only on the seed and the step. Sums differ in their
last digits between processors and versions of PyTorch, so other machines get other weights of the same quality.

## Limits

Trained on priors of at most eight components, and one to six observations at once of linear, range and angle sensors
with Gaussian noise and up to 30 % outliers. `inference.update.updater` checks every answer by importance sampling, and
refines poor ones.
"""
