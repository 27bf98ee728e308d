"""Inputs whitened by an adaptive quadrature: in the frame of a problem, its posterior has mean 0 and deviation 1.

The published form sees a prior and data in their own units. Where the likelihood can be called, a few points say where
the posterior is. They start at the prior's moments and move to those of the posterior.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from research.paper.scalar import Problems, ScalarTask, log_joint

ROUNDS = 5
EDGE = 0.02  # mass on the outermost points above which the points walk on, and do not shrink
SHRINK = 0.15  # smallest new deviation over the last one
LOWEST = -25.0  # log density relative to the peak, below which a profile does not look
POINTS = torch.linspace(-4.0, 4.5, 18, dtype=torch.float64)
PROFILE = torch.linspace(-4.5, 4.5, 25, dtype=torch.float64)
REACH = 16.0  # of points that stand for a posterior: exponential tails have mass beyond 9 deviations
BEND = 3.0  # deviations within which they are about evenly spaced


class Points(NamedTuple):
    """Whitened points ``(P,)`` or ``(B, P)``, and the logarithm of the spacing around each."""

    places: Tensor
    log_spacing: Tensor


def spread_points(count: int, shift: Tensor | float = 0.0) -> Points:
    """Return `count` points, dense in the middle: t = b sinh(x / b) for even x, moved by `shift` of their spacing."""
    most = math.asinh(REACH / BEND)
    spacing = 2 * most / (count - 1)
    even = torch.linspace(-most, most, count, dtype=torch.float64) + shift * spacing
    return Points(BEND * torch.sinh(even), (BEND * spacing * torch.cosh(even)).log())


class Frame(NamedTuple):
    """Centre and scale of each problem ``(B,)``; `settled` is false where mass remained at the outermost points."""

    centre: Tensor
    scale: Tensor
    settled: Tensor

    def points(self, whitened: Tensor) -> Tensor:
        """Return whitened points ``(P,)`` or ``(B, P)`` in the units of the parameter, ``(B, P)``."""
        return self.centre[:, None] + self.scale[:, None] * whitened


def whiten(task: ScalarTask, problems: Problems) -> Frame:
    """Return the frame of each problem.

    A frame that shrinks while mass sits at its edge never finds the posterior, so it walks on and widens first.
    """
    frame = Frame(*task.family.moments(problems.prior), torch.ones(len(problems.prior), dtype=torch.bool))
    for _ in range(ROUNDS):
        points = frame.points(POINTS)
        weights = torch.softmax(log_joint(task, problems, points), 1)
        settled = weights[:, 0] + weights[:, -1] < EDGE
        centre = (weights * points).sum(1)
        deviation = (weights * (points - centre[:, None]).square()).sum(1).sqrt()
        narrower = deviation.clamp_min(SHRINK * frame.scale)
        frame = Frame(centre, torch.where(settled, narrower, 1.3 * frame.scale), settled)
    return frame


def profile(task: ScalarTask, problems: Problems, frame: Frame) -> Tensor:
    """Return the log density of the posterior over that of a Gaussian, ``(B, len(PROFILE))``, in units of 3 nats."""
    logs = log_joint(task, problems, frame.points(PROFILE))
    relative = (logs - logs.amax(1, keepdim=True)).clamp_min(LOWEST)
    return (relative + 0.5 * PROFILE.square()) / 3


def posterior_points(
    task: ScalarTask, problems: Problems, frame: Frame, whitened: Points
) -> tuple[Tensor, Tensor]:
    """Return points ``(B, P)`` and the log of their posterior mass, which sums to 1."""
    places = frame.points(whitened.places)
    return places, torch.log_softmax(log_joint(task, problems, places) + whitened.log_spacing, 1)
