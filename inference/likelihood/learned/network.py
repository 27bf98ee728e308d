"""A learned likelihood: log p(data | parameters, context), by one small network for each datum.

``p(d₁, …, dₘ | θ, c) = ∏ p(dᵢ | θ, c, d₁, …, dᵢ₋₁)``: network i takes parameters, context and the earlier data, and
gives the law of datum i (`laws`). The networks are smooth, so the likelihood has a gradient and a curvature.

Where a report has several rows of data, the same networks serve each row, and are told of the rows before it
(`EarlierRows`). Where the problem has `features`, these stand for parameters and context.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from beliefstream.inference.likelihood.learned.laws import Law, law_from
from beliefstream.inference.likelihood.learned.reports import Names, ReportNetwork
from beliefstream.inference.likelihood.learned.training_range import TrainingRange
from beliefstream.inference.likelihood.problems import ONE, Rows

Features = Callable[[Tensor, Tensor], Tensor]  # of coordinates and context
SUMMARY = 16  # width of an embedding of an earlier row, or of the recurrent unit's state


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
        out: Tensor = hidden + nn.functional.silu(self.linear(hidden))
        return out


class Seen(NamedTuple):
    """Reports as the networks take them."""

    known: Tensor  # parameters and context, or their features, near one in size (M, F)
    data: Tensor  # (M, L, m)
    there: Tensor  # which rows a report has (M, L)
    earlier: Tensor | None  # summaries of the rows before (M, L, s)


class EarlierRows(nn.Module):
    """Summary of the rows before each row of `numbers` data; zero before the first.

    The rows of a set come in any order, so it is the mean of an embedding of each earlier row, and their number
    (M. Zaheer et al., "Deep Sets", NeurIPS 2017). For a sequence it is the state of a gated recurrent unit (K. Cho et
    al., arXiv 1406.1078), and the last row.
    """

    def __init__(self, rows: Rows, numbers: int) -> None:
        super().__init__()
        self.is_set = rows.kind == "set"
        self.each: nn.Module
        if self.is_set:
            self.each = nn.Sequential(
                nn.Linear(numbers, 2 * SUMMARY), nn.SiLU(), nn.Linear(2 * SUMMARY, SUMMARY)
            )
        else:
            self.each = nn.GRU(numbers, SUMMARY, batch_first=True)
        self.size = SUMMARY + (2 if self.is_set else 1) * numbers + 1

    def forward(self, data: Tensor) -> Tensor:
        """Summaries ``(M, L, size)`` of data ``(M, L, m)``, near one in size."""
        number = torch.arange(data.shape[1], dtype=data.dtype, device=data.device)[None, :, None]
        place = (number / (number + 1)).expand(len(data), -1, -1)
        if self.is_set:
            each = torch.cat([self.each(data), data, data.square() / 4], -1)
            summary = (each.cumsum(1) - each) / number.clamp_min(1)
        else:
            each = torch.cat([self.each(data)[0], data], -1)
            summary = torch.cat([torch.zeros_like(each[:, :1]), each[:, :-1]], 1)
        return torch.cat([summary, place], -1)


class LearnedLikelihood(ReportNetwork):
    """Log likelihood of a problem, learned from its simulator; see `ReportNetwork` for more attributes.

    Attributes:
        features: those of the problem; None if it has none.
        low, high: range of coordinates and context that it was trained on ``(Q,)``.
        known_low, known_high: range of the features in training ``(F,)``, if there are any.
        expected_error: KL(simulator ‖ learned) of one observation in nats, on average over that range; NaN if it was
            not measured. Of reports with rows it is that of the longest.
    """

    low: Tensor
    high: Tensor
    known_low: Tensor
    known_high: Tensor

    def __init__(
        self,
        names: Names,
        laws: list[Law],
        trained_on: TrainingRange,
        shape: Shape,
        features: tuple[Features, TrainingRange] | None = None,
    ) -> None:
        super().__init__(names, laws)
        self.shape = shape
        self.features: Features | None = None if features is None else features[0]
        known = trained_on if features is None else features[1]
        self.expected_error, self.digest = float("nan"), ""
        self._copies: dict[torch.device, LearnedLikelihood] = {}
        self.earlier = EarlierRows(names.rows, len(laws)) if names.rows != ONE else None
        inputs = len(known.low) + (self.earlier.size if self.earlier is not None else 0)
        self.networks = nn.ModuleList(
            _network(inputs + earlier, law, shape) for earlier, law in enumerate(laws)
        )
        self.register_buffer("low", trained_on.low)
        self.register_buffer("high", trained_on.high)
        if features is not None:
            self.register_buffer("known_low", known.low)
            self.register_buffer("known_high", known.high)

    @property
    def trained_on(self) -> TrainingRange:
        """Range of the coordinates of parameters, then of the context."""
        return TrainingRange(self.low, self.high)

    def forward(self, coordinates: Tensor, numbers: Tensor) -> Tensor:
        """Log likelihood ``(M,)`` at `coordinates` ``(M, n)`` of observations `numbers` ``(M, Q)``, float64.

        Outside the range of the training it keeps the value at the nearest edge of parameters and context.
        """
        if coordinates.device != self.low.device:
            value: Tensor = self._on(coordinates.device)(coordinates, numbers)
            return value
        seen = self.seen(coordinates, numbers)
        logs = [
            law.log_probability(self.outputs(i, seen), seen.data[..., i].flatten())
            for i, law in enumerate(self.laws)
        ]
        each = torch.stack(logs).sum(0).view(seen.there.shape)
        return torch.where(seen.there, each, 0.0).sum(1)

    def _on(self, device: torch.device) -> LearnedLikelihood:
        """A copy on another device, kept for the next call."""
        if device not in self._copies:
            with torch.inference_mode(False):  # its tensors are differentiated later
                made = learned_from(self.describe(), self.features)
                made.load_state_dict(self.state_dict())
                self._copies[device] = made.double().to(device).requires_grad_(False).eval()
        return self._copies[device]

    def seen(self, coordinates: Tensor, numbers: Tensor) -> Seen:
        """The inputs of the networks, for the most rows that a report of `numbers` ``(M, Q)`` has."""
        rows, width = self.names.rows, len(self.laws)
        data, context = numbers[:, : rows.most * width], numbers[:, rows.most * width :]
        known = self._known(coordinates, context).to(self._dtype)
        if self.earlier is None:
            return Seen(known, data[:, None], torch.ones_like(data[:, :1], dtype=torch.bool), None)
        most = max(int(rows.lengths(data).max()), 1)
        data = data.view(len(data), rows.most, width)[:, :most]
        there, data = ~data[..., 0].isnan(), data.nan_to_num(nan=0.0)
        places = [self._feature(i, data[..., i].flatten()) for i in range(width)]
        features = torch.stack(places, -1).view(data.shape).to(self._dtype)
        return Seen(known, data, there, self.earlier(features))

    def _known(self, coordinates: Tensor, context: Tensor) -> Tensor:
        if self.features is None:
            return self.trained_on.scaled(torch.cat([coordinates, context], -1))
        inside = self.trained_on.clamped(torch.cat([coordinates, context], -1))
        count = coordinates.shape[1]
        features = self.features(inside[:, :count], inside[:, count:])
        return TrainingRange(self.known_low, self.known_high).scaled(features)

    def _feature(self, place: int, values: Tensor) -> Tensor:
        return self.laws[place].feature(values).clamp(-10, 10)

    def outputs(self, place: int, seen: Seen) -> Tensor:
        """The outputs ``(M L, size)`` for the law of one datum in each row, float64; data before it are inputs."""
        rows = seen.data.shape[1]
        parts = [seen.known[:, None].expand(-1, rows, -1)]
        parts += [] if seen.earlier is None else [seen.earlier]
        parts += [
            self._feature(i, seen.data[..., i].flatten()).view(-1, rows, 1).to(self._dtype)
            for i in range(place)
        ]
        out: Tensor = self.networks[place](torch.cat(parts, -1).flatten(0, 1)).double()
        return out

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def describe(self) -> dict[str, Any]:
        """Return what `learned_from` reads."""
        return {
            **self.names.describe(),
            "features": 0 if self.features is None else len(self.known_low),
            "laws": [law.describe() for law in self.laws],
            "shape": {"width": self.shape.width, "layers": self.shape.layers},
            "expected_error": self.expected_error,
        }


def learned_from(described: dict[str, Any], features: Features | None) -> LearnedLikelihood:
    """Build a likelihood as `describe` said, without weights; `features` are the problem's.

    Raises KeyError, TypeError or ValueError if something is missing or of another kind.
    """
    names = Names.read(described)
    count = int(described.get("features", 0))
    if (count > 0) != (features is not None):
        raise ValueError(f"features: it has {count}, and the problem {'some' if features else 'none'}")
    shape = Shape(int(described["shape"]["width"]), int(described["shape"]["layers"]))
    laws = [law_from(each) for each in described["laws"]]
    if len(laws) != len(names.data):
        raise ValueError(f"laws: expected {len(names.data)}, got {len(laws)}")
    known = None if features is None else (features, _unknown(count))
    trained_on = _unknown(len(names.parameters) + len(names.context))
    made = LearnedLikelihood(names, laws, trained_on, shape, known)
    made.expected_error = float(described["expected_error"])
    return made


def _unknown(size: int) -> TrainingRange:
    return TrainingRange(*torch.zeros(2, size, dtype=torch.float64).clone())


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
