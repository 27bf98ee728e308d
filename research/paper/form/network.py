"""The Distribution Transformer in its published form, for problems with one parameter.

Whittle, Ziomek, Rawling and Osborne, "Distribution Transformers" (arXiv 2502.02463), section 3: the prior becomes K
tokens, each datum a token; layers of self- and cross-attention; each token decodes to one component of the posterior.
There is no positional encoding. A parametric prior is embedded: token k gets the prior's numbers and a quantile level
(k + 1/2) / K. So one network serves any K.

Three things are added. Inputs and outputs are whitened (`whitening`). The log densities at the whitened points are one
more token. Before training, the answer is about the Gaussian of the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from beliefstream.inference.published.network import attention, embedding
from research.paper.form.whitening import PROFILE, Frame, profile, whiten
from research.paper.scalar import Problems, ScalarMixture, ScalarTask

TOKEN_NUMBERS = 4  # features of a token's quantile level
FRAME_NUMBERS = 2  # features of the frame relative to the prior


@dataclass(frozen=True)
class Shape:
    """Sizes of a network."""

    prior_numbers: int
    data_numbers: int
    width: int = 32
    layers: int = 2
    heads: int = 4
    hidden: int = 128


def levels(count: int) -> tuple[Tensor, Tensor]:
    """Return the features of `count` tokens ``(K, 4)``, and the normal quantiles of their levels ``(K,)``."""
    share = (torch.arange(count) + 0.5) / count
    quantile = torch.special.ndtri(share)
    number = torch.full((count,), float(count))
    return torch.stack([share - 0.5, quantile, number.log(), 1 / number], 1), quantile


class PublishedForm(nn.Module):
    """Maps whitened problems to whitened mixtures of any number of components."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.prior = embedding(shape.prior_numbers + FRAME_NUMBERS + TOKEN_NUMBERS, width)
        self.data = embedding(shape.data_numbers, width)
        self.profile = embedding(len(PROFILE), width)
        self.layers = attention(width, shape.layers, shape.heads, shape.hidden)
        self.head = nn.Linear(width, 3)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.spread = nn.Parameter(torch.tensor([0.9, 0.5, 0.6]))  # of the untrained components

    def forward(self, prior: Tensor, data: Tensor, profiles: Tensor, count: int) -> ScalarMixture:
        """Return mixtures of `count` components.

        Args:
            prior: ``(B, prior_numbers + 2)``.
            data: ``(B, N, data_numbers)``.
            profiles: ``(B, len(PROFILE))``.
            count: K.
        """
        batch = len(prior)
        tokens, quantile = levels(count)
        inputs = torch.cat([prior[:, None].expand(-1, count, -1), tokens.expand(batch, -1, -1)], 2)
        memory = torch.cat([self.data(data), self.profile(profiles)[:, None]], 1)
        out = self.head(self.layers(self.prior(inputs), memory))  # (B, K, 3)
        base = self.spread[1] - self.spread[2] * tokens[:, 2]
        return ScalarMixture(
            torch.log_softmax(out[..., 0], -1),
            self.spread[0] * quantile + out[..., 1],
            base + out[..., 2].clamp(-7, 4),
        )


class Inputs(NamedTuple):
    """Whitened inputs of the network, float32, and the frame that maps its answers back."""

    prior: Tensor
    data: Tensor
    profiles: Tensor
    frame: Frame


def inputs(task: ScalarTask, problems: Problems) -> Inputs:
    """Whiten the problems."""
    frame = whiten(task, problems)
    moments = task.family.moments(problems.prior)
    relative = torch.stack([(frame.centre - moments[0]) / moments[1], (frame.scale / moments[1]).log()], 1)
    prior = torch.cat([task.prior_features(problems.prior), relative.clamp(-30, 30)], 1)
    data = task.data_features(problems.data, moments)
    return Inputs(prior.float(), data.float(), profile(task, problems, frame).float(), frame)


def answer(network: PublishedForm, task: ScalarTask, problems: Problems, count: int) -> ScalarMixture:
    """Return the network's posteriors of `count` components in float64, without refinement."""
    prior, data, profiles, frame = inputs(task, problems)
    with torch.no_grad():
        whitened = network(prior, data, profiles, count)
    mixture = ScalarMixture(*(part.double() for part in whitened))
    return mixture.in_frame(frame.centre, frame.scale)
