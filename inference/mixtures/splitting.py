"""Splitting of a Gaussian into narrower ones side by side, with the same mean and covariance.

Along one direction a unit Gaussian becomes ``w N(−o, s²) + (1 − 2 w) N(0, s²) + w N(o, s²)`` with ``s² + 2 w o² = 1``:
for s = .7, the closest such mixture (divergence .0009 nats). Compare M. F. Huber, T. Bailey, H. Durrant-Whyte and U. D.
Hanebeck, "On Entropy Approximation for Gaussian Mixture Random Vectors", Proc. IEEE MFI 2008, who do not keep the
covariance. `divide` also splits into 5, 7 or 9, evenly spaced, as narrow as a divergence of .0005 nats allows.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture

NARROWER = 0.7  # standard deviation of each part along the direction
OUTER_WEIGHT = 0.19
OFFSET = math.sqrt((1 - NARROWER**2) / (2 * OUTER_WEIGHT))
PARTS = 3


class Division(NamedTuple):
    """Split of one Gaussian into evenly spaced parts of equal width."""

    narrower: float  # standard deviation of each part along the direction
    outer: tuple[float, ...]  # weights on one side, from the middle outwards
    divergence: float  # from the Gaussian to its parts, nats

    @property
    def parts(self) -> int:
        return 1 + 2 * len(self.outer)

    def places(self) -> list[tuple[float, float]]:
        """Weight and place of every part, the middle one first."""
        if not self.outer:
            return [(1.0, 0.0)]
        spread = 2 * sum(weight * step**2 for step, weight in enumerate(self.outer, 1))
        spacing = math.sqrt((1 - self.narrower**2) / spread)
        sides = [
            (weight, side * step * spacing) for step, weight in enumerate(self.outer, 1) for side in (-1, 1)
        ]
        return [(1 - 2 * sum(self.outer), 0.0), *sides]


DIVISIONS = (
    Division(1.0, (), 0.0),
    Division(NARROWER, (OUTER_WEIGHT,), 0.0009),
    Division(0.55, (0.2349, 0.0289), 0.0006),
    Division(0.43, (0.2409, 0.0658, 0.0076), 0.0006),
    Division(0.35, (0.2275, 0.0952, 0.0223, 0.0029), 0.0006),
)


def split(
    mixture: GaussianMixture, source: Tensor, which: Tensor, direction: Tensor
) -> tuple[GaussianMixture, Tensor]:
    """Split the components `which` ``(B, K)`` in three and keep the others; each keeps its mean and covariance.

    Args:
        mixture: of ``K`` components.
        source: a label that the parts inherit, ``(B, K)``.
        which: bool; absent components must not be chosen.
        direction: one standard deviation of each component along a line ``(B, K, D)``: a vector a with ``a aᵀ ≤ P``.

    Returns:
        The mixture, heaviest components first, in as many places as the largest needs, and the labels.
    """
    joint, component = divide(mixture, which.long(), direction)
    return joint, source.gather(1, component)


def divide(mixture: GaussianMixture, division: Tensor, direction: Tensor) -> tuple[GaussianMixture, Tensor]:
    """Split each component by one of `DIVISIONS`; each keeps its mean and covariance.

    Args:
        mixture: of ``K`` components.
        division: places in `DIVISIONS`, ``(B, K)``; 0 for absent components, which splits nothing.
        direction: as for `split`, ``(B, K, D)``.

    Returns:
        The mixture, heaviest components first, in as many places as the largest needs, and the component that each
        part is of.
    """
    dtype, device = mixture.means.dtype, mixture.means.device
    divisions = DIVISIONS[: 1 + int(division.max())]
    most = divisions[-1].parts
    share = torch.full((len(divisions), most), -math.inf, dtype=dtype, device=device)
    place = torch.zeros_like(share)
    for row, each in enumerate(divisions):
        for column, (weight, offset) in enumerate(each.places()):
            share[row, column], place[row, column] = math.log(weight), offset
    less = torch.tensor([1 - each.narrower**2 for each in divisions], dtype=dtype, device=device)[division]
    covariances = mixture.covariances - less[..., None, None] * la.outer(direction, direction)
    log_weights = mixture.log_weights[..., None] + share[division]
    means = mixture.means[:, :, None] + place[division][..., None] * direction[:, :, None]
    parts = covariances[:, :, None].expand(-1, -1, most, -1, -1)
    joint = GaussianMixture(log_weights.flatten(1), means.flatten(1, 2), parts.flatten(1, 2))
    order = joint.log_weights.argsort(dim=1, descending=True, stable=True)
    order = order[:, : max(1, int(joint.present.sum(1).max()))]
    return joint.places(order), order // most
