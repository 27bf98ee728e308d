"""Updates in closed form: exact for linear sensors, and linearised for nearly linear ones."""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.update import nearly_linear
from beliefstream.inference.update.reduction_cost import condense
from beliefstream.inference.update.result import Method, Update, size_at
from beliefstream.inference.update.scaled_problem import Posed, Scaled
from beliefstream.inference.update.settings import UpdateSettings

__all__ = ["kalman", "linearised"]


def kalman(posed: Posed, index: Tensor, settings: UpdateSettings) -> Update:
    """Exact update of the entities at `index`, all of them closed; the loss by reduction is measured."""
    exact, evidence, surprise = posed.exact(index)
    posterior, loss = condense(exact, settings.most_components, settings.merge_below)
    method = torch.full((len(index),), Method.KALMAN, dtype=torch.int64)
    return Update(posterior, size_at(loss), evidence, surprise, method, loss)


def linearised(problem: Scaled, index: Tensor, divergence: Tensor, settings: UpdateSettings) -> Update:
    """Update the entities at `index`, one linearised update per component and outlier hypothesis.

    It is exact if all sensors are linear. `divergence` ``(B,)`` is that of the linearisation.
    """
    problem = problem.rows(index)
    prior, most = problem.prior, settings.most_components
    posterior, evidence, loss = nearly_linear.update(
        prior, problem.observations, most, settings.merge_below, problem.linear
    )
    method = torch.where(divergence > 0, int(Method.LINEARISED), int(Method.KALMAN))
    surprise, total = problem.prediction.surprise(prior), divergence + loss
    return Update(problem.back(posterior), size_at(total), evidence, surprise, method, total)
