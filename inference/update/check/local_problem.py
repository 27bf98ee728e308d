"""A problem in the coordinates that its sensors touch, and the extension of an answer back to the whole state."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update.check import importance, unobserved
from beliefstream.inference.update.check.conditional_proposal import ConditionalProposal


@dataclass(frozen=True)
class LocalProblem:
    """A problem in the coordinates that its sensors touch, shifted and scaled: y = (x − shift) / scale; float64."""

    whole: GaussianMixture  # the prior over all coordinates
    axes: list[int]
    shift: Tensor
    scale: Tensor
    prior: GaussianMixture
    observations: Observations
    images: GaussianMixture  # where the observations agree: part of every check's proposal; before a search the prior
    shares: tuple[float, ...] = importance.SHARES  # of the points of a check
    conditional: ConditionalProposal | None = None  # where a check draws further points
    start: GaussianMixture | None = None  # a first answer, in place of the network's

    @classmethod
    def of(cls, prior: GaussianMixture, observations: Observations, axes: list[int]) -> LocalProblem:
        touched = prior.marginal(axes)
        shift, covariance = touched.moments()
        scale = (la.trace(covariance) / len(axes)).sqrt()
        matrix = observations.matrix[..., axes]
        rows = max(observations.rows_needed, min(2, len(axes)))
        projected = replace(
            observations,
            value=observations.value[..., :rows],
            matrix=matrix[..., :rows, :],
            origin=observations.origin[..., :rows],
            heading=observations.heading[..., axes],
        ).in_coordinates(shift, scale)
        scaled = touched.in_coordinates(shift, scale)
        return cls(prior, axes, shift, scale, scaled, projected, scaled)

    @property
    def partial(self) -> bool:
        """Whether the state has coordinates that no sensor touches."""
        return len(self.axes) < self.whole.dimension

    def weigh(self, answer: GaussianMixture, count: int, seed: int) -> importance.Weighted:
        """Importance points of an answer in these coordinates."""
        mixtures = importance.Mixtures(answer, self.prior, self.images)
        return importance.weigh(mixtures, self.observations, count, seed, self.shares, self.conditional)

    def rows(self, index: Tensor) -> LocalProblem:
        """The problems at `index`; all of them in their order are these themselves, whose numbers are known."""
        batch = self.prior.batch
        if len(index) == batch and bool((index == torch.arange(batch)).all()):
            return self
        prior = self.prior.rows(index)
        return LocalProblem(
            self.whole.rows(index),
            self.axes,
            self.shift[index],
            self.scale[index],
            prior,
            self.observations.rows_of(index),
            prior if self.images is self.prior else self.images.rows(index),
            self.shares,
            None if self.conditional is None else self.conditional.rows(index),
            None if self.start is None else self.start.rows(index),
        )

    def extend(self, answer: GaussianMixture, source: Tensor | None = None) -> GaussianMixture:
        """Extend an answer to all coordinates of the state, in its own units.

        `source` ``(B, J)`` is the prior component of each part if known; otherwise responsibilities weigh the
        components.
        """
        means = answer.means * self.scale[:, None, None] + self.shift[:, None]
        covariances = answer.covariances * self.scale[:, None, None, None].square()
        if self.partial:
            stated = GaussianMixture(answer.log_weights, means, covariances)
            return unobserved.extend(stated, self.whole, self.axes, source)
        order = torch.argsort(torch.tensor(self.axes))
        return GaussianMixture(answer.log_weights, means[..., order], covariances[..., order, :][..., order])

    def localise(self, whole: GaussianMixture) -> GaussianMixture:
        """The marginal of a mixture over the state in these coordinates."""
        return whole.marginal(self.axes).in_coordinates(self.shift, self.scale)

    def unobserved_divergence(self, answer: GaussianMixture, weighted: importance.Weighted) -> Tensor:
        """Divergence of an answer over the state, nats ``(B,)``, in the coordinates that no sensor touches."""
        points = weighted.points * self.scale[:, None, None] + self.shift[:, None]
        share = torch.softmax(weighted.target - weighted.proposal, 1)
        return unobserved.unobserved_divergence(answer, self.whole, self.axes, points, share)
