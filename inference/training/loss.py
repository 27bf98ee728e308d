"""Component-consistent loss: negative log density of the true state, within the prior component it came from.

The answer's components that refine component k should explain a state drawn from k. The loss is
the mean of ``−log Σ_{j: source(j)=k} w_j N(x; m_j, S_j)``. Up to a constant it is the expected KL divergence of the
joint posterior over (component, state) from the answer; arXiv 2502.02463, section 3, has the marginal form. It keeps
token j a refinement of component source(j), so coordinates that no sensor touches can follow exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import component_log_density
from beliefstream.inference.network.transformer import DistributionTransformer, Tokens

WORST = 30.0  # nats; limits the influence of one problem on a batch


def component_consistent_loss(
    network: DistributionTransformer,
    tokens: Tokens,
    observations: Observations,
    source: Tensor,
    state: Tensor,
) -> Tensor:
    """Mean loss over the batch, in nats, for `source` ``(B,)`` and `state` ``(B, d)`` as drawn."""
    estimate = network(tokens, observations)
    logs = (
        component_log_density(state[:, None], estimate.means, estimate.factors)[..., 0] + estimate.log_weights
    )
    own = logs.masked_fill(tokens.source != source[:, None], -1e9)
    return (-torch.logsumexp(own, 1)).clamp(max=WORST).mean()
