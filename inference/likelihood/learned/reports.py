"""What every network that learned a problem from simulated reports has: names, laws of the data, and their range."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from beliefstream.inference.likelihood.learned.laws import Law
from beliefstream.inference.likelihood.learned.training_range import TrainingRange
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ONE, Rows


@dataclass(frozen=True)
class Names:
    """Names of a problem, with the kinds of parameters and data, and the rows of a report."""

    problem: str
    parameters: tuple[tuple[str, str], ...]
    data: tuple[tuple[str, str], ...]
    context: tuple[str, ...]
    rows: Rows = ONE

    @classmethod
    def of(cls, function: ProblemFunction, problem: str) -> Names:
        return cls(problem, function.parameters, function.data, function.context, function.rows)

    def describe(self) -> dict[str, Any]:
        """Return what `read` reads."""
        kinds = {"parameters": dict(self.parameters), "data": dict(self.data)}
        return {"problem": self.problem, **kinds, "context": list(self.context), "rows": list(self.rows)}

    @classmethod
    def read(cls, described: dict[str, Any]) -> Names:
        """The names as `describe` said; raises KeyError, TypeError or ValueError if something is missing or else."""
        parameters, data = tuple(described["parameters"].items()), tuple(described["data"].items())
        rows = Rows(*described.get("rows", ONE))
        return cls(str(described["problem"]), parameters, data, tuple(described["context"]), rows)


class ReportNetwork(nn.Module):
    """A network that is trained on simulated reports of a problem.

    Attributes:
        names: those of the problem.
        laws: the law of each datum.
        lowest, highest: range of each datum in training ``(m,)``.
    """

    lowest: Tensor
    highest: Tensor

    def __init__(self, names: Names, laws: list[Law]) -> None:
        super().__init__()
        self.names, self.laws = names, laws
        self.register_buffer("lowest", torch.full((len(laws),), torch.inf, dtype=torch.float64))
        self.register_buffer("highest", torch.full((len(laws),), -torch.inf, dtype=torch.float64))

    @property
    @abstractmethod
    def trained_on(self) -> TrainingRange:
        """Range of the coordinates of parameters, then of the context, in training."""

    def widen(self, data: Tensor) -> None:
        """Widen the range of each datum to `data` ``(M, m)``; rows that a report lacks are NaN."""
        there = data[~data[:, 0].isnan()]
        self.lowest.copy_(torch.minimum(self.lowest, there.amin(0)))
        self.highest.copy_(torch.maximum(self.highest, there.amax(0)))

    def distance_of(self, numbers: Tensor) -> float:
        """How far an observation's `numbers` ``(Q,)`` lie outside those of the training, in widths; 0 inside."""
        rows, count = self.names.rows.most, len(self.names.parameters)
        low = torch.cat([*[self.lowest] * rows, self.trained_on.low[count:]])
        high = torch.cat([*[self.highest] * rows, self.trained_on.high[count:]])
        return float(TrainingRange(low, high).distance(numbers).nan_to_num(nan=0.0).max())
