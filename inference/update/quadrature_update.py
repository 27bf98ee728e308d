"""Update by quadrature, for the problems where it is accurate enough; these skip the network."""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.update import quadrature
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.result import Method, Update, joined
from beliefstream.inference.update.scaled_problem import Scaled
from beliefstream.inference.update.settings import UpdateSettings

AIM = 0.2  # of the allowed loss: components are split down to it


def settle(
    prior: GaussianMixture,
    observations: Observations,
    touched: Tensor,
    scaled: Scaled,
    open_: Tensor,
    settings: UpdateSettings,
) -> tuple[Tensor, Update | None]:
    """Places of the problems that quadrature solves well enough, and the answers; None if there are none.

    Args:
        prior, observations: over all coordinates.
        touched: coordinates that each entity's sensors touch, ``(B, D)`` bool.
        scaled: the same problems, linearised.
        open_: problems that are not solved yet, ``(B,)`` bool.
        settings: `quadrature_below` is the loss in nats that an answer may have; 0 never uses quadrature.
    """
    none = torch.zeros(0, dtype=torch.int64)
    fits = open_ & (touched.sum(1) <= max(quadrature.RULES))
    if settings.quadrature_below <= 0 or not bool(fits.any()):
        return none, None
    spread = quadrature.gate(scaled.prior, scaled.observations, scaled.linear)
    fits = fits & (spread < quadrature.MOST_SPREAD)
    code = torch.where(fits, (touched * (1 << torch.arange(prior.dimension))).sum(1), -1)
    parts: list[tuple[Tensor, Update]] = []
    for pattern in sorted(set(code.tolist()) - {-1}):
        index = torch.nonzero(code == pattern)[:, 0]
        axes = torch.nonzero(touched[index[0]])[:, 0].tolist()
        local = LocalProblem.of(
            prior.rows(index), observations.rows_of(index), axes, torch.device("cpu"), torch.float64
        )
        accepted, update = _settled(local, scaled.rows(index), settings)
        if len(accepted):
            parts.append((index[accepted], update.rows(accepted)))
    if not parts:
        return none, None
    return torch.cat([index for index, _ in parts]).sort().values, joined(parts)


def _settled(local: LocalProblem, problem: Scaled, settings: UpdateSettings) -> tuple[Tensor, Update]:
    """Places of the answers that are good enough, and all answers."""
    below = settings.quadrature_below
    solution = quadrature.solve(local.prior64, local.observations64, below * AIM)
    whole = local.extend(solution.posterior, solution.source)
    whole = reduce(whole, settings.most_components, settings.merge_below)
    divergence = solution.divergence_of(local.localise(whole))
    update = Update(
        whole,
        # for two close densities the chi-square divergence is twice the Kullback-Leibler divergence
        1 / (1 + 2 * divergence),
        solution.log_evidence,
        problem.prediction.surprise(problem.prior),
        torch.full((whole.batch,), Method.QUADRATURE, dtype=torch.int64),
        divergence,
    )
    return torch.nonzero(divergence < below)[:, 0], update
