"""Component-consistent loss: negative log density of the true state within the prior component it was drawn from.

The loss is the mean of ``−log Σ_{j: source(j)=k} w_j N(x; m_j, S_j)`` over states x drawn from prior component k. Up to
a constant it is the expected KL divergence of the joint posterior over (component, state) from the answer. Whittle et
al., arXiv 2502.02463, section 3, has the marginal form. With the joint form, token j stays a refinement of component
source(j), so the conditional distribution of coordinates that no sensor observes remains exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import component_log_density
from beliefstream.inference.network.transformer import DistributionTransformer, Tokens

WORST = 30.0  # nats; largest loss of one problem, to limit its influence on a batch


def component_consistent_loss(
    network: DistributionTransformer,
    tokens: Tokens,
    observations: Observations,
    source: Tensor,
    state: Tensor,
) -> Tensor:
    """Return the mean loss over a batch in nats; `source` ``(B,)`` is the component of each `state` ``(B, d)``."""
    estimate = network(tokens, observations)
    logs = (
        component_log_density(state[:, None], estimate.means, estimate.factors)[..., 0] + estimate.log_weights
    )
    own = logs.masked_fill(tokens.source != source[:, None], -1e9)
    return (-torch.logsumexp(own, 1)).clamp(max=WORST).mean()
