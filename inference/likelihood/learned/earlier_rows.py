"""What the law of a row is told of the rows before it, as features of the data alone.

The rows of a set come in any order, so it is the mean of an embedding of each earlier row, and their number
(M. Zaheer et al., "Deep Sets", NeurIPS 2017). For a sequence it is the state of a gated recurrent unit (K. Cho et al.,
arXiv 1406.1078), and the last row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from beliefstream.inference.likelihood.problems import Rows

WIDTH = 16  # of an embedding, or of the recurrent unit's state


class EarlierRows(nn.Module):
    """Summary of the rows before each row of `numbers` data; zero before the first."""

    def __init__(self, rows: Rows, numbers: int) -> None:
        super().__init__()
        self.is_set = rows.kind == "set"
        self.each: nn.Module
        if self.is_set:
            self.each = nn.Sequential(nn.Linear(numbers, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, WIDTH))
        else:
            self.each = nn.GRU(numbers, WIDTH, batch_first=True)
        self.size = WIDTH + (2 if self.is_set else 1) * numbers + 1

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
