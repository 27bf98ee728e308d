"""The numbers of tensors and mixtures on the processor, as compiled functions take them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


class Numbers(NamedTuple):
    """The numbers of a `GaussianMixture`."""

    log_weights: Array  # (B, K)
    means: Array  # (B, K, D)
    covariances: Array  # (B, K, D, D)


def array(tensor: Tensor) -> Array:
    """The numbers of a tensor, in double precision and one after another; shared with it where it is like that."""
    numbers: Array = tensor.double().cpu().contiguous().numpy()
    return numbers
