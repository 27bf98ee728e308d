"""Options of a training: its plan, and how it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from beliefstream.streams.cli.setup import cache_directory


class Device(StrEnum):
    """Where to train."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def _plan(help: str, **more: Any) -> Any:
    """Return an option for a field of a plan; --help cannot import the plans, and a test compares the defaults."""
    return typer.Option(help=help, rich_help_panel="Plan", **more)


@dataclass(frozen=True)
class NetworkPlan:
    """The plan of a training of the network: `inference.training.train.Plan`."""

    family: Annotated[str, _plan("of problems: mixed or planar")] = "mixed"
    dimensions: Annotated[str, _plan("of problems; each batch uses the next one", metavar="D,...")] = (
        "2,1,2,3,2,4"
    )
    steps: Annotated[int, _plan("batches", min=1)] = 18_000
    batch: Annotated[int, _plan("problems a step", min=1)] = 512
    tokens: Annotated[str, _plan("components of the answers, in turn, at least 8", metavar="K,...")] = "8"
    learning_rate: Annotated[float, _plan("highest learning rate")] = 0.002
    warm_up: Annotated[int, _plan("steps to the highest learning rate", min=1)] = 300
    weight_decay: Annotated[float, _plan("of AdamW", min=0)] = 0.0001
    seed: Annotated[int, _plan("of weights and problems", min=0)] = 0
    initial: Annotated[str, _plan("initial weights, by name or a .safetensors file")] = "random"


@dataclass(frozen=True)
class NetworkSize:
    """The size of the network: `inference.network.transformer.Configuration`."""

    width: Annotated[int, _plan("of a token", min=1)] = 32
    layers: Annotated[int, _plan("of the network", min=1)] = 4
    heads: Annotated[int, _plan("of attention; must divide the width", min=1)] = 4
    hidden: Annotated[int, _plan("units of the gates", min=1)] = 32


@dataclass(frozen=True)
class LikelihoodPlan:
    """The plan of a training of a likelihood: `inference.training.likelihood.train.Plan`."""

    steps: Annotated[int, _plan("batches", min=1)] = 4_000
    batch: Annotated[int, _plan("simulations a step", min=1)] = 1_024
    learning_rate: Annotated[float, _plan("highest learning rate")] = 0.02
    warm_up: Annotated[int, _plan("steps to the highest learning rate", min=1)] = 100
    seed: Annotated[int, _plan("of weights and simulations", min=0)] = 0
    width: Annotated[int, _plan("of a layer", min=1)] = 48
    layers: Annotated[int, _plan("of the networks", min=1)] = 2


@dataclass(frozen=True)
class PosteriorPlan:
    """The plan of a training of the published form: `inference.published.train.Plan`."""

    steps: Annotated[int, _plan("batches", min=1)] = 6_000
    batch: Annotated[int, _plan("problems a step", min=1)] = 128
    tokens: Annotated[str, _plan("components of the answers, in turn", metavar="K,...")] = "8,4,8,16"
    learning_rate: Annotated[float, _plan("highest learning rate")] = 0.002
    warm_up: Annotated[int, _plan("steps to the highest learning rate", min=1)] = 100
    seed: Annotated[int, _plan("of weights and problems", min=0)] = 0
    width: Annotated[int, _plan("of a token", min=1)] = 48
    layers: Annotated[int, _plan("of the network", min=1)] = 3
    heads: Annotated[int, _plan("of attention; must divide the width", min=1)] = 4
    hidden: Annotated[int, _plan("units of the gates", min=1)] = 128


@dataclass(frozen=True)
class Running:
    """How long a training runs, and what it keeps and writes."""

    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="read at the start, if it exists, and written during the training",
            show_default="in the user's cache directory",
        ),
    ] = None
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="for weights and model card; not written if absent")
    ] = None
    threads: Annotated[
        int | None, typer.Option(min=1, help="on the CPU", show_default="one for each core")
    ] = None
    stop_after: Annotated[
        float | None, typer.Option(metavar="MINUTES", min=0, help="stop and save; the same command continues")
    ] = None

    def checkpoint_of(self, name: str) -> Path:
        """Where the training of that name is kept."""
        return self.checkpoint or cache_directory() / "training" / f"{name}.pt"


def changed_options(plan: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The options that change a plan's defaults into its fields."""
    options = ""
    for name, value in plan.items():
        if value != defaults[name]:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            options += f" --{name.replace('_', '-')} {text}"
    return options
