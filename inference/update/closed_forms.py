"""Updates in closed form: exact for linear sensors, and linearised for nearly linear ones.

On the CPU, `native_closed_forms` finds the unreduced posteriors without PyTorch's operators.
"""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native_forms import native_form
from beliefstream.inference.update import nearly_linear
from beliefstream.inference.update.reduction_cost import condense
from beliefstream.inference.update.result import Method, Update
from beliefstream.inference.update.scaled_problem import Scaled
from beliefstream.inference.update.settings import UpdateSettings

__all__ = ["exact_by_operators", "kalman", "linearised"]


def kalman(problem: Scaled, index: Tensor, settings: UpdateSettings) -> Update:
    """Exact update of the entities at `index`: one Kalman update per component, weighted by its evidence.

    The loss by reduction is measured.
    """
    native = native_form("update.native_closed_forms", problem.prior.means, problem.prediction.gain)
    by = exact_by_operators if native is None else native.exact
    exact, evidence, surprise = by(problem, index)
    posterior, loss = condense(exact, settings.most_components, settings.merge_below)
    method = torch.full((len(index),), Method.KALMAN, dtype=torch.int64)
    return Update(posterior, (-loss).exp(), evidence, surprise, method, loss)


def exact_by_operators(problem: Scaled, index: Tensor) -> tuple[GaussianMixture, Tensor, Tensor]:
    """Exact posterior, log evidence and surprise ``(B,)``, by PyTorch's operators."""
    problem = problem.rows(index)
    prior, prediction = problem.prior, problem.prediction
    exact = problem.back(prediction.posterior(prior).normalised())
    evidence = torch.logsumexp(prior.log_weights + prediction.log_evidence, 1)
    return exact, evidence, prediction.surprise(prior)


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
    # for two close Gaussians the chi-square divergence is twice the Kullback-Leibler divergence
    size = (-loss).exp() / (1 + 2 * divergence)
    surprise = problem.prediction.surprise(prior)
    return Update(problem.back(posterior), size, evidence, surprise, method, divergence + loss)
