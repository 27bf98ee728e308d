"""Counts the separated modes of a density, by clustering samples of it.

Paths go from sample to sample along straight lines; the height of a path is the density at its lowest point. A sample
is a peak if every path to a higher sample crosses a valley `VALLEY` nats below it. Every other sample belongs to the
peak at the end of its highest path. So a ring is one mode, and so is every log-concave density. This is
persistence-based clustering (Chazal, Guibas, Oudot and Skraba, "Persistence-based clustering in Riemannian manifolds",
Journal of the ACM 60(6), 2013).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

VALLEY = 2.0  # smallest depth of a valley between modes, nats
LEAST_MASS = 0.02  # smallest share of the samples for a mode to count
_SAMPLES = 96
_STOPS = (0.25, 0.5, 0.75)  # points along the line between two samples


def count_modes(points: Tensor, log_density: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the number of modes of each problem, ``(B,)`` int64.

    Args:
        points: equally weighted samples, ``(B, P, d)``; at most 96 of them are used.
        log_density: function that returns the log density ``(B, Q)`` at points ``(B, Q, d)``, up to a constant.
    """
    chosen = points[:, :: max(1, points.shape[1] // _SAMPLES)][:, :_SAMPLES]
    batch, count, _ = chosen.shape
    height = log_density(chosen)
    walk = _paths(chosen, height, log_density)
    # the first of several samples of equal height counts as the highest
    order = torch.arange(count)
    level = height[:, :, None] == height[:, None]
    higher = (height[:, None] > height[:, :, None]) | (level & (order < order[:, None]))
    peak = ~(higher & (walk > height[:, :, None] - VALLEY)).any(-1)
    leads = torch.where(peak[:, None], walk, -torch.inf).argmax(-1)
    mass = torch.zeros(batch, count).scatter_add_(1, leads, torch.ones(batch, count)) / count
    return (mass >= LEAST_MASS).sum(1)


def _paths(points: Tensor, height: Tensor, log_density: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the log density at the lowest point of the highest path between each pair of samples, ``(B, P, P)``."""
    count = points.shape[1]
    lowest = torch.minimum(height[:, :, None], height[:, None])
    row, column = torch.triu_indices(count, count, 1)
    for stop in _STOPS:
        between = stop * points[:, row] + (1 - stop) * points[:, column]
        there = log_density(between)
        lowest[:, row, column] = torch.minimum(lowest[:, row, column], there)
    lowest[:, column, row] = lowest[:, row, column]
    for middle in range(count):
        detour = torch.minimum(lowest[:, :, middle, None], lowest[:, None, middle])
        lowest = torch.maximum(lowest, detour)
    return lowest
