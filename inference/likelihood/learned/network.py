"""A learned likelihood: log p(data | parameters, context), by one small network for each datum.

``p(d₁, …, dₘ | θ, c) = ∏ p(dᵢ | θ, c, d₁, …, dᵢ₋₁)``: network i takes parameters, context and the earlier data, and
gives the law of datum i (`laws`). The networks are smooth, so the likelihood has a gradient and a curvature.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from beliefstream.inference.likelihood.learned.laws import Law, law_from
from beliefstream.inference.likelihood.learned.training_range import TrainingRange
from beliefstream.inference.likelihood.problem_functions import ProblemFunction


@dataclass(frozen=True)
class Names:
    """Names of a problem, with the kinds of parameters and data."""

    problem: str
    parameters: tuple[tuple[str, str], ...]
    data: tuple[tuple[str, str], ...]
    context: tuple[str, ...]

    @classmethod
    def of(cls, function: ProblemFunction, problem: str) -> Names:
        return cls(problem, function.parameters, function.data, function.context)


@dataclass(frozen=True)
class Shape:
    """Sizes of each network: units in a layer, and layers between the first and the last."""

    width: int = 48
    layers: int = 2


class Block(nn.Module):
    """A layer that adds to what comes in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        found: Tensor = hidden + nn.functional.silu(self.linear(hidden))
        return found


class LearnedLikelihood(nn.Module):
    """Log likelihood of a problem, learned from its simulator.

    Attributes:
        names: those of the problem.
        laws: the law of each datum.
        low, high: range of coordinates and context that it was trained on ``(Q,)``.
        lowest, highest: range of each datum in training ``(m,)``.
        expected_error: KL(simulator ‖ learned) of one observation in nats, on average over that range; NaN if it was
            not measured.
    """

    low: Tensor
    high: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(self, names: Names, laws: list[Law], trained_on: TrainingRange, shape: Shape) -> None:
        super().__init__()
        self.names, self.laws, self.shape = names, laws, shape
        self.expected_error, self.digest = float("nan"), ""
        self._copies: dict[torch.device, LearnedLikelihood] = {}
        known = len(trained_on.low)
        self.networks = nn.ModuleList(
            _network(known + earlier, law, shape) for earlier, law in enumerate(laws)
        )
        self.register_buffer("low", trained_on.low)
        self.register_buffer("high", trained_on.high)
        self.register_buffer("lowest", torch.full((len(laws),), torch.inf, dtype=torch.float64))
        self.register_buffer("highest", torch.full((len(laws),), -torch.inf, dtype=torch.float64))

    @property
    def trained_on(self) -> TrainingRange:
        """Range of the coordinates of parameters, then of the context."""
        return TrainingRange(self.low, self.high)

    def forward(self, coordinates: Tensor, numbers: Tensor) -> Tensor:
        """Log likelihood ``(M,)`` at `coordinates` ``(M, n)`` of observations `numbers` ``(M, Q)``, float64.

        Outside the range of the training it keeps the value at the nearest edge of parameters and context.
        """
        if coordinates.device != self.low.device:
            found: Tensor = self._on(coordinates.device)(coordinates, numbers)
            return found
        logs = [
            law.log_probability(self.outputs(i, coordinates, numbers), numbers[:, i])
            for i, law in enumerate(self.laws)
        ]
        return torch.stack(logs).sum(0)

    def _on(self, device: torch.device) -> LearnedLikelihood:
        """A copy on another device, kept for the next call."""
        if device not in self._copies:
            with torch.inference_mode(False):  # its tensors are differentiated later
                self._copies[device] = deepcopy(self).to(device)
        return self._copies[device]

    def outputs(self, place: int, coordinates: Tensor, numbers: Tensor) -> Tensor:
        """The outputs ``(M, size)`` for the law of one datum, float64; they depend on the data before it."""
        known = self.trained_on.scaled(torch.cat([coordinates, numbers[:, len(self.laws) :]], -1))
        earlier = [
            law.feature(numbers[:, i]).clamp(-10, 10)[:, None] for i, law in enumerate(self.laws[:place])
        ]
        inputs = torch.cat([known, *earlier], -1).to(self._dtype)
        found: Tensor = self.networks[place](inputs).double()
        return found

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def distance_of(self, numbers: Tensor) -> float:
        """How far an observation's `numbers` ``(Q,)`` lie outside those of the training, in widths; 0 inside."""
        parameters = len(self.names.parameters)
        lowest = torch.cat([self.lowest, self.low[parameters:]])
        highest = torch.cat([self.highest, self.high[parameters:]])
        return float(TrainingRange(lowest, highest).distance(numbers).max())

    def describe(self) -> dict[str, Any]:
        """Return what `learned_from` reads."""
        return {
            "problem": self.names.problem,
            "parameters": dict(self.names.parameters),
            "data": dict(self.names.data),
            "context": list(self.names.context),
            "laws": [law.describe() for law in self.laws],
            "shape": {"width": self.shape.width, "layers": self.shape.layers},
            "expected_error": self.expected_error,
        }


def learned_from(described: dict[str, Any]) -> LearnedLikelihood:
    """Build a likelihood as `describe` said, without weights.

    Raises KeyError, TypeError or ValueError if something is missing or of another kind.
    """
    names = Names(
        str(described["problem"]),
        tuple(described["parameters"].items()),
        tuple(described["data"].items()),
        tuple(described["context"]),
    )
    unknown = torch.zeros(len(names.parameters) + len(names.context), dtype=torch.float64)
    shape = Shape(int(described["shape"]["width"]), int(described["shape"]["layers"]))
    laws = [law_from(each) for each in described["laws"]]
    if len(laws) != len(names.data):
        raise ValueError(f"laws: expected {len(names.data)}, got {len(laws)}")
    made = LearnedLikelihood(names, laws, TrainingRange(unknown, unknown.clone()), shape)
    made.expected_error = float(described["expected_error"])
    return made


def _network(inputs: int, law: Law, shape: Shape) -> nn.Sequential:
    last = nn.Linear(shape.width, law.size)
    with torch.no_grad():
        last.weight.mul_(0.1)
        last.bias.copy_(law.first())
    return nn.Sequential(
        nn.Linear(inputs, shape.width),
        nn.SiLU(),
        *(Block(shape.width) for _ in range(shape.layers)),
        last,
    )
