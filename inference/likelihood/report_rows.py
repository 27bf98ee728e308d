"""Reports of several rows of data: a set of any size, or a short sequence.

A problem says ``rows = ("set", 8)`` or ``rows = ("sequence", 8)``: its reports have 1 to 8 rows. The simulator draws
the longest report. The first n rows of it are a report of n rows, so the number of rows says nothing of the parameters.

As numbers of an observation, rows that a report lacks are NaN.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Kind = Literal["one", "set", "sequence"]
MOST_NUMBERS = 64  # data of one report


class Rows(NamedTuple):
    """Kind and largest number of rows of a report."""

    kind: Kind = "one"
    most: int = 1

    def lengths(self, data: Tensor) -> Tensor:
        """Number of rows ``(M,)`` of reports whose data are ``(M, most · m)``."""
        first = data[:, :: data.shape[1] // self.most]
        return (~first.isnan()).sum(1)


ONE = Rows()


def rows_of(stated: Any, data: int) -> Rows:
    """Read the attribute `rows` of a problem with so many `data` in a row; None is one row.

    Raises ValueError if it is something else.
    """
    if stated is None:
        return ONE
    pair = isinstance(stated, (tuple, list)) and len(stated) == 2
    if not pair or stated[0] not in ("set", "sequence") or type(stated[1]) is not int:
        raise ValueError(f'needs ("set" or "sequence", the largest number), got {stated!r}')
    if not 2 <= stated[1] <= MOST_NUMBERS // data:
        raise ValueError(f"needs from 2 to {MOST_NUMBERS // data} rows of {data} data, got {stated[1]}")
    return Rows(stated[0], stated[1])


def padded(value: list[float], rows: Rows, context: int, data: int) -> list[float]:
    """A report of `context` numbers and rows of `data` numbers, filled up with NaN to the most rows.

    Raises ValueError if the rows are not whole, or if there are none or too many.
    """
    count, rest = divmod(len(value) - context, data)
    if rest or not 1 <= count <= rows.most:
        before = f"{context} numbers, then " if context else ""
        raise ValueError(f"{before}1 to {rows.most} rows of {data} data expected, got {len(value)} numbers")
    return [*value, *[float("nan")] * (data * (rows.most - count))]


def by_length(lengths: Tensor) -> list[tuple[int, Tensor]]:
    """Each length that occurs, with the indices of its reports."""
    return [(int(n), torch.nonzero(lengths == n)[:, 0]) for n in torch.unique(lengths)]
