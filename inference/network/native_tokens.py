"""Tokens of a prior for the processor, and their share-out; see `transformer.duplicate_components`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.native import native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.network.transformer import Tokens

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


class Given(NamedTuple):
    """`Tokens`, in double precision."""

    log_weights: Array
    means: Array
    covariances: Array
    source: Counts
    rank: Counts
    copies: Counts
    spread: Array


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    share(torch.zeros(1, 1, dtype=torch.float64), 1)


def given_of(tokens: Tokens) -> Given:
    """The numbers of tokens on the processor."""
    return Given(
        array(tokens.log_weights),
        array(tokens.means),
        array(tokens.covariances),
        tokens.source.contiguous().numpy(),
        tokens.rank.contiguous().numpy(),
        tokens.copies.contiguous().numpy(),
        array(tokens.spread),
    )


def share(log_weights: Tensor, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Component of each token, place among its duplicates, and their number, each ``(B, tokens)``."""
    shape = len(log_weights), tokens
    found = np.empty(shape, np.int64), np.empty(shape, np.int64), np.empty(shape, np.int64)
    _share(array(log_weights), *found)
    source, rank, copies = (torch.from_numpy(part) for part in found)
    return source, rank, copies


@native
def _share(log_weights: Array, source: Counts, rank: Counts, copies: Counts) -> None:
    batch, count = log_weights.shape
    tokens = source.shape[1]
    weights, each = np.empty(count), np.empty(count, np.int64)
    for b in range(batch):
        left = tokens
        for k in range(count):
            weights[k] = math.exp(log_weights[b, k])
            each[k] = 1 if log_weights[b, k] > -math.inf else 0
            left -= each[k]
        for _ in range(left):
            best, most = 0, -math.inf
            for k in range(count):
                score = weights[k] / (each[k] + 0.5) if log_weights[b, k] > -math.inf else -1.0
                if score > most:
                    best, most = k, score
            each[best] += 1
        place = 0
        for k in range(count):
            for copy in range(each[k]):
                source[b, place], rank[b, place], copies[b, place] = k, copy, each[k]
                place += 1
