"""Likelihoods smoothed over cells, for the processor; see `inference.update.prior_scan`."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.likelihood.native_plane import in_plane
from beliefstream.inference.likelihood.native_terms import (
    Array,
    Seen,
    log_sum,
    new_space,
    parts_at,
    smallest,
)
from beliefstream.inference.mixtures.native import native
from beliefstream.inference.mixtures.native_arrays import array


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    smoothed(*smallest())


def smoothed(observations: Seen, points: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """As `prior_scan.smoothed_by_operators`, in double precision."""
    total, change = np.zeros(points.shape[:2]), np.zeros(points.shape[:2])
    _smoothed(observations, array(points), array(frames), total, change)
    return torch.from_numpy(total), torch.from_numpy(change)


@native
def _smoothed(seen: Seen, points: Array, frames: Array, total: Array, change: Array) -> None:
    rows, size = seen.matrix.shape[2:]
    space = new_space(seen)
    into = (np.empty(size), np.empty((size, size)), np.empty((size, size)), np.empty(size))
    _, information, curvature, _ = into
    for b in range(len(points)):
        for n in range(seen.kind.shape[1]):
            if not seen.mask[b, n]:
                continue
            for p in range(points.shape[1]):
                varied = 0.0
                if rows == 2 and size == 2:
                    f = (frames[b, p, 0, 0], frames[b, p, 0, 1], frames[b, p, 1, 0], frames[b, p, 1, 1])
                    numbers, _, some, bent, _ = in_plane(seen, b, n, points[b, p, 0], points[b, p, 1], f)
                    varied = some[0] + some[2]
                    varied += 0.5 * (bent[0] * bent[0] + 2 * bent[1] * bent[1] + bent[2] * bent[2])
                else:
                    numbers = parts_at(seen, b, n, points[b, p], frames[b, p], space, into)
                    for i in range(size):
                        varied += information[i, i]
                        for j in range(size):
                            varied += 0.5 * curvature[i, j] * curvature[i, j]
                _, squared, inlier, outlier = numbers
                gained = 0.5 * squared * (varied / (1 + varied)) - 0.5 * math.log1p(varied)
                found = log_sum(inlier + gained, outlier)
                total[b, p] += -math.inf if found != found else found
                # a comparison that keeps what is not a number
                change[b, p] = change[b, p] if varied <= change[b, p] else varied
