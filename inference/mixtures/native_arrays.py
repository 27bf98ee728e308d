"""The numbers of tensors and mixtures on the processor, as native functions take them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture

Array = NDArray[np.float64]


def array(tensor: Tensor) -> Array:
    """The numbers of a tensor, in double precision and one after another; shared with it where it is like that."""
    found: Array = tensor.double().contiguous().numpy()
    return found


def numbers_of(mixture: GaussianMixture) -> tuple[Array, Array, Array]:
    """Log weights ``(B, K)``, means ``(B, K, D)`` and covariances ``(B, K, D, D)``."""
    return array(mixture.log_weights), array(mixture.means), array(mixture.covariances)
