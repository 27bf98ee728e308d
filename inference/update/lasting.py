"""Which answers last: what they lack costs more with every update."""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.update.mode_search import bend
from beliefstream.inference.update.scaled_problem import Scaled

WEAK, BENT = 1.0, 0.4  # information (nats) below which an answer lasts, and nonlinearity above which it does


def lasts(problem: Scaled) -> Tensor:
    """Which answers last, ``(B,)`` bool: those of weak, nonlinear observations to a prior of one component.

    Such a belief stays wide over many updates. What its tails lack then stays lacking, and costs more as the rest gets
    narrower.
    """
    lasting = problem.prior.present.sum(1) == 1
    index = torch.nonzero(lasting)[:, 0]
    if len(index) == 0:
        return lasting
    some = problem.rows(index)
    used = some.observations.mask[:, None, :, None, None]
    total = torch.where(used, some.linear.information, 0.0).sum(2)
    information = la.log_diagonal(la.cholesky(torch.eye(total.shape[-1]).to(total) + total))
    weak = torch.where(some.prior.present, information, 0.0).amax(1) < WEAK
    lasting[index] = weak & (bend(some) > BENT)
    return lasting
