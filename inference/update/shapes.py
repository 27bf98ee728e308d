"""Shapes of tensors: entities whose observations have one shape form a batch, and padding for others goes.

Padding changes the shapes of tensors, and so how sums round. Without it an answer does not depend on the rest of its
batch.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import ANGLE, Observations


def shape_code(observations: Observations) -> Tensor:
    """A code per entity ``(B,)`` int64; `trimmed` gives tensors of one shape for entities of the same code."""
    mask = observations.mask
    count = mask.sum(1)
    parts = [power_of_two(count), ((observations.kind == ANGLE) & mask).any(1).long()]
    if observations.mixture is not None:
        parts.append((observations.noise_components * mask).amax(1))
    if observations.deviation_slope is not None:
        parts.append(((observations.deviation_slope != 0) & mask).any(1).long())
    taken = [part for part in (observations.functions, observations.likelihoods) if part is not None]
    parts.extend((part.present & mask).any(1).long() for part in taken)
    code = torch.zeros_like(count)
    for part in parts:
        code = code * 64 + part
    return code


def trimmed(observations: Observations) -> Observations:
    """Remove the places, and the kinds of noise and function, that only other entities of a batch need.

    They change the shapes of tensors, and so how sums round.

    If all entities have one `shape_code`, an entity's tensors do not depend on the rest of the batch.
    """
    mask = observations.mask
    row = torch.arange(observations.batch)[:, None]
    first = (~mask).long().argsort(dim=1, stable=True)  # used places first
    count = 1 << int(power_of_two(mask.sum(1)).max())
    kept = observations.map(lambda tensor: tensor[row, first[:, :count]])
    short = count - kept.mask.shape[1]
    if short > 0:
        kept = kept.map(lambda tensor: torch.cat([tensor, tensor[:, -1:].repeat_interleave(short, 1)], 1))
        kept.mask[:, -short:] = False
    if kept.mixture is not None:
        parts = int((kept.noise_components * kept.mask).max())
        kept = replace(kept, mixture=kept.mixture.map(lambda part: part[..., :parts]) if parts else None)
    if kept.deviation_slope is not None and not bool(((kept.deviation_slope != 0) & kept.mask).any()):
        kept = replace(kept, deviation_slope=None)
    if kept.functions is not None and not bool((kept.functions.present & kept.mask).any()):
        kept = replace(kept, functions=None)
    if kept.likelihoods is not None and not bool((kept.likelihoods.present & kept.mask).any()):
        kept = replace(kept, likelihoods=None)
    return kept


def power_of_two(count: Tensor) -> Tensor:
    """The smallest exponent of a power of two that is at least `count`."""
    return torch.where(count > 1, (count.clamp_min(1).double().log2() - 1e-9).ceil(), 0.0).long()
