"""Measurement function for the recording `uwb_planar`: distance from an anchor to a tag on a turning body."""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.likelihood.measurement_functions import register


@register("tag_range")
def tag_range(state: Tensor, lever: Tensor, height: Tensor) -> Tensor:
    """Return the distance in space, m.

    Args:
        state: position of the body relative to the anchor, m and m, and its heading, rad, ``(3,)``.
        lever: position of the tag in the body's frame, m, ``(2,)``.
        height: height of the tag above the anchor, m.
    """
    cosine, sine = torch.cos(state[2]), torch.sin(state[2])
    x = state[0] + cosine * lever[0] - sine * lever[1]
    y = state[1] + sine * lever[0] + cosine * lever[1]
    return (x.square() + y.square() + height.square() + 1e-12).sqrt()
