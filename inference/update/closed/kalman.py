"""The exact update of linear sensors without outliers: one Kalman update of every component.

In the frame ``x = m + L y`` of a component ``N(m, L Lᵀ)``, with the gradient g and the gain G of `Prediction`: the mean
becomes ``m + L G g``, the covariance ``L G Lᵀ``, and the weight is multiplied by the evidence (R. E. Kalman, "A New
Approach to Linear Filtering and Prediction Problems", Journal of Basic Engineering 82, 1960).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update.closed.reduction_cost import condense
from beliefstream.inference.update.closed.scaled_problem import Posed
from beliefstream.inference.update.closed.updates import exact_all
from beliefstream.inference.update.problems import Problems
from beliefstream.inference.update.result import Answer, Method


def can(problems: Problems) -> Tensor:
    """Entities all of whose sensors are linear and have no outliers, ``(B,)`` bool."""
    return problems.posed.closed


def answer(problems: Problems, index: Tensor) -> Answer:
    """Exact posteriors of the entities at `index`; what their reduction loses is measured."""
    settings = problems.settings
    whole, evidence = exact(problems.posed, index)
    posterior, loss = condense(whole, settings.most_components, settings.merge_below)
    return Answer.of(posterior, evidence, loss, Method.KALMAN)


def exact(posed: Posed, index: Tensor) -> tuple[GaussianMixture, Tensor]:
    """Unreduced posterior and log evidence ``(b,)`` of the entities at `index`, all of them closed."""
    (_, count, size), batch = posed.pose.own[1].shape, len(index)
    found = np.empty((batch, count)), np.empty((batch, count, size)), np.empty((batch, count, size, size))
    numbers = np.empty(batch), np.empty(batch)
    exact_all(index.numpy(), posed.pose.own, posed.pose.predicted, posed.pose.frame, found, numbers)
    return GaussianMixture(*map(torch.from_numpy, found)), torch.from_numpy(numbers[0])
