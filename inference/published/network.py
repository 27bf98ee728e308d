"""The published form for a problem of the user: a token a component of the prior, a token a datum, one pass.

Whittle, Ziomek, Rawling and Osborne, "Distribution Transformers" (arXiv 2502.02463), section 3. Inputs and outputs are
whitened by the moments of the prior. Heavy components stand for several tokens, so that there are as many tokens as
components are wanted, and one network serves any number. Each answer begins at its token's component.

A parametric prior is embedded: its tokens are copies of one Gaussian with the prior's moments, and get its numbers.
The embedded tokens are also decoded to the prior itself (`reconstruction`), which the training compares with it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from beliefstream.inference.likelihood.learned.laws import Law, law_from
from beliefstream.inference.likelihood.learned.reports import Names, ReportNetwork
from beliefstream.inference.likelihood.learned.training_range import TrainingRange
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.network.transformer import Tokens, duplicate_components
from beliefstream.inference.published.priors import Families, Priors

MOST_PARAMETERS = 16
NARROW, WIDE = -7.0, 3.0  # least and largest logarithm of a component's deviation over that of the prior's


@dataclass(frozen=True)
class Shape:
    """Sizes of a network: units of a token, layers, heads of attention, and units after it."""

    width: int = 48
    layers: int = 3
    heads: int = 4
    hidden: int = 128


class Start(NamedTuple):
    """Whitened tokens, where each component of the answer begins; float32."""

    log_weights: Tensor  # (B, K)
    means: Tensor  # (B, K, n)
    factors: Tensor  # (B, K, n, n)
    spread: Tensor  # (B, K, n)
    copies: Tensor  # (B, K, 1)


class Whitened(NamedTuple):
    """A batch of problems as the network takes it, and how to go back."""

    inputs: Tensor  # of the tokens (B, K, T), float32
    memory: Tensor  # of the data (B, N, D), float32
    absent: Tensor  # which data a report lacks (B, N)
    start: Start
    centre: Tensor  # of the frame (B, n)
    frame: Tensor  # its lower Cholesky factor (B, n, n)


class Answered(NamedTuple):
    """Whitened answers: log weights ``(B, K)``, means ``(B, K, n)`` and lower factors ``(B, K, n, n)``."""

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    def log_density(self, points: Tensor) -> Tensor:
        """Return the log density at whitened points ``(B, P, n)``, as ``(B, P)``."""
        size = points.shape[-1]
        offset = (points[:, None] - self.means[:, :, None]).mT  # (B, K, n, P)
        scaled: Tensor = torch.linalg.solve_triangular(self.factors, offset, upper=False)
        volume = self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1) + 0.5 * size * math.log(2 * math.pi)
        logs = (self.log_weights - volume)[..., None] - 0.5 * scaled.square().sum(2)
        return torch.logsumexp(logs, 1)

    def over_the_coordinates(self, whitened: Whitened) -> GaussianMixture:
        """Return the answers as mixtures over the coordinates, float64 and without gradients."""
        log_weights, means, factors = (part.detach().double() for part in self)
        outer = whitened.frame[:, None] @ factors
        means = whitened.centre[:, None] + (whitened.frame[:, None] @ means[..., None])[..., 0]
        return GaussianMixture(torch.log_softmax(log_weights, -1), means, outer @ outer.mT)


class PublishedForm(ReportNetwork):
    """Posterior of a problem by one pass; `laws` say how each datum enters the network.

    Attributes:
        families: of parametric priors; None if priors are mixtures.
    """

    def __init__(
        self,
        names: Names,
        laws: list[Law],
        trained_on: TrainingRange,
        shape: Shape,
        families: Families | None = None,
    ) -> None:
        super().__init__(names, laws)
        self._trained_on, self.shape, self.families = trained_on, shape, families
        size = len(names.parameters)
        frame = 2 * size + size * (size - 1) // 2
        self._outputs = 1 + size + size * (size + 1) // 2
        numbers = 0 if families is None else 2 * size
        self.prior = embedding(self._outputs + size + 2 + frame + numbers, shape.width)
        self.data = embedding(2 + len(laws) + len(names.context) + frame, shape.width)
        self.layers = attention(shape.width, shape.layers, shape.heads, shape.hidden)
        self.head, self.prior_head = (_zero(nn.Linear(shape.width, self._outputs)) for _ in range(2))
        self.spread = nn.Parameter(torch.tensor([0.5, 0.3]))  # of copies, and how much narrower they are

    @property
    def trained_on(self) -> TrainingRange:
        return self._trained_on

    def forward(self, whitened: Whitened) -> Answered:
        """Return whitened posteriors."""
        embedded = self.prior(whitened.inputs)
        memory = self.data(whitened.memory)
        out = self.layers(embedded, memory, memory_key_padding_mask=whitened.absent)  # (B, K, W)
        return self._decoded(self.head(out), whitened.start)

    def reconstruction(self, whitened: Whitened) -> Answered:
        """Return the whitened priors, decoded from the embedded tokens alone."""
        return self._decoded(self.prior_head(self.prior(whitened.inputs)), whitened.start)

    def _decoded(self, out: Tensor, start: Start) -> Answered:
        size = len(self.names.parameters)
        step = self.spread[0] * start.spread + out[..., 1 : 1 + size]
        narrower = -self.spread[1] / size * start.copies.log()
        scales = (out[..., 1 + size : 1 + 2 * size] + narrower).clamp(NARROW, WIDE).exp()
        inner = torch.diag_embed(scales)
        row, column = torch.tril_indices(size, size, -1)
        inner[..., row, column] = out[..., 1 + 2 * size :] * scales[..., row]
        return Answered(
            torch.log_softmax(start.log_weights + out[..., 0], -1),
            start.means + (start.factors @ step[..., None])[..., 0],
            start.factors @ inner,
        )

    def whiten(self, priors: Priors, numbers: Tensor, count: int) -> Whitened:
        """Return the inputs for posteriors of `count` components; `numbers` ``(B, Q)`` are data, then context."""
        mixture = priors.mixture
        if mixture.components > count:
            mixture = reduce(mixture, count, 0.0)
        tokens = duplicate_components(mixture, count)
        centre, covariance = mixture.moments()
        frame = torch.linalg.cholesky(covariance)
        width = (self.trained_on.high - self.trained_on.low)[: len(self.names.parameters)]
        context = numbers[:, self.names.rows.most * len(self.laws) :]
        known = self.trained_on.scaled(torch.cat([centre, context], -1))
        size = len(self.names.parameters)
        row, column = torch.tril_indices(size, size, -1)
        sizes = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
        shape = torch.cat([(sizes / width).log() / 2 + 1, (frame / sizes[..., None])[..., row, column]], -1)
        described = torch.cat([known[:, :size], shape], -1)
        start, features = _tokens(tokens, centre, frame)
        parts = [features, described[:, None].expand(-1, count, -1)]
        if self.families is not None and priors.numbers is not None:
            parts.append(self.families.scaled(priors.numbers)[:, None].expand(-1, count, -1))
        memory, absent = self._memory(numbers, known[:, size:], described)
        inputs = torch.cat(parts, -1)
        return Whitened(inputs.float(), memory.float(), absent, start, centre, frame)

    def _memory(self, numbers: Tensor, context: Tensor, described: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens of the data ``(B, N, D)``, and which of them a report lacks ``(B, N)``."""
        rows, width = self.names.rows, len(self.laws)
        data = numbers[:, : rows.most * width].reshape(-1, rows.most, width)
        absent, data = data.isnan(), data.nan_to_num(nan=0.0)
        features = torch.stack([law.feature(data[..., i].flatten()) for i, law in enumerate(self.laws)], -1)
        features = features.view(data.shape).clamp(-10, 10)[..., None]
        place = torch.linspace(-1, 1, rows.most, dtype=data.dtype) * (rows.kind == "sequence")
        which = torch.eye(width, dtype=data.dtype).expand(*data.shape, -1)
        known = torch.cat([context, described], -1)[:, None, None].expand(*data.shape, -1)
        each = [features, place.view(1, -1, 1, 1).expand(*data.shape, 1), which, known]
        return torch.cat(each, -1).flatten(1, 2), absent.flatten(1, 2)

    def answer(self, priors: Priors, numbers: Tensor, count: int) -> GaussianMixture:
        """Return posteriors of `count` components over the coordinates, float64."""
        with torch.no_grad():
            whitened = self.whiten(priors, numbers, count)
            return self.forward(whitened).over_the_coordinates(whitened)

    def describe(self) -> dict[str, Any]:
        """Return what `form_from` reads."""
        return {
            **self.names.describe(),
            "laws": [law.describe() for law in self.laws],
            "range": [self.trained_on.low.tolist(), self.trained_on.high.tolist()],
            "families": None if self.families is None else self.families.describe(),
            "shape": vars(self.shape),
        }


def form_from(described: dict[str, Any]) -> PublishedForm:
    """Build a form as `describe` said, without weights.

    Raises KeyError, TypeError or ValueError if something is missing or of another kind.
    """
    names = Names.read(described)
    low, high = (torch.tensor(end, dtype=torch.float64) for end in described["range"])
    families = None
    if (stated := described["families"]) is not None:
        ends = [torch.tensor(stated[end], dtype=torch.float64) for end in ("low", "high")]
        families = Families(tuple(stated["names"]), *ends)
    laws = [law_from(each) for each in described["laws"]]
    return PublishedForm(names, laws, TrainingRange(low, high), Shape(**described["shape"]), families)


def _tokens(tokens: Tokens, centre: Tensor, frame: Tensor) -> tuple[Start, Tensor]:
    """Whitened tokens, and their features."""
    size = centre.shape[-1]
    means = torch.linalg.solve_triangular(frame, (tokens.means - centre[:, None]).mT, upper=False).mT
    factors = torch.linalg.solve_triangular(
        frame[:, None], torch.linalg.cholesky(tokens.covariances), upper=False
    )
    copies = tokens.copies[..., None].to(means.dtype)
    share = torch.where(tokens.rank > 0, tokens.rank / tokens.copies, 0.0)[..., None]
    logs = tokens.log_weights[..., None]
    row, column = torch.tril_indices(size, size, -1)
    scales = factors.diagonal(dim1=-2, dim2=-1).log()
    start = Start(*(part.float() for part in (logs[..., 0], means, factors, tokens.spread, copies)))
    shape = torch.cat([scales, factors[..., row, column]], -1)
    weight = (logs + math.log(tokens.means.shape[1])).clamp(-10, 10) / 3
    return start, torch.cat([weight, means, shape, tokens.spread, copies.log(), share], -1)


def _zero(layer: nn.Linear) -> nn.Linear:
    """The layer with weights of zero, so that untrained answers are the prior."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def embedding(numbers: int, width: int) -> nn.Sequential:
    """Return a network from the `numbers` of a token to `width` units."""
    return nn.Sequential(nn.Linear(numbers, 2 * width), nn.GELU(), nn.Linear(2 * width, width))


def attention(width: int, layers: int, heads: int, hidden: int) -> nn.TransformerDecoder:
    """Return layers in which tokens attend to each other and to the data, with `hidden` units after each."""
    layer = nn.TransformerDecoderLayer(width, heads, hidden, 0.0, "gelu", batch_first=True, norm_first=True)
    return nn.TransformerDecoder(layer, layers, nn.LayerNorm(width))
