"""A problem in the coordinates that its sensors touch, and the extension back to the whole state."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native_tensors import is_native
from beliefstream.inference.update import importance, native_extension
from beliefstream.inference.update.prior_scan import Scan
from beliefstream.inference.update.unseen_coordinates import (
    LEAST_RESPONSIBILITY,
    MERGED_BELOW,
    extend,
    responsibilities,
)


@dataclass(frozen=True)
class LocalProblem:
    """A problem in the coordinates that its sensors touch, shifted and scaled: y = (x − shift) / scale."""

    whole: GaussianMixture  # the prior over all coordinates
    axes: list[int]
    shift: Tensor
    scale: Tensor
    prior64: GaussianMixture
    observations64: Observations
    prior: GaussianMixture
    observations: Observations
    partial: bool  # whether the state has coordinates that no sensor touches
    images: GaussianMixture  # Gauss-Newton images of the prior: part of every check's proposal
    shares: tuple[float, ...] = importance.SHARES  # of the points of a check
    scan: Scan | None = None  # of the prior, after a mode search

    @classmethod
    def of(
        cls,
        prior: GaussianMixture,
        observations: Observations,
        axes: list[int],
        device: torch.device,
        dtype: torch.dtype,
    ) -> LocalProblem:
        seen = prior.marginal(axes)
        shift, covariance = seen.moments()
        scale = (la.trace(covariance) / len(axes)).sqrt()
        double = seen.in_coordinates(shift, scale)
        matrix = observations.matrix[..., axes]
        rows = max(observations.rows_needed, min(2, len(axes)))
        projected = replace(
            observations,
            value=observations.value[..., :rows],
            matrix=matrix[..., :rows, :],
            origin=observations.origin[..., :rows],
            heading=observations.heading[..., axes],
        ).in_coordinates(shift, scale)
        return cls(
            prior,
            axes,
            shift,
            scale,
            double,
            projected,
            double.to(dtype=dtype, device=device),
            projected.to(dtype=dtype, device=device),
            len(axes) < prior.dimension,
            double.to(dtype=dtype, device=device),
        )

    def with_one_component(self) -> LocalProblem:
        """The problem as if the whole prior were one Gaussian, for the coordinates that no sensor touches."""
        one = GaussianMixture.gaussian
        return replace(self, whole=one(*self.whole.moments()), prior64=one(*self.prior64.moments()))

    def weigh(self, answer: GaussianMixture, count: int, seed: int) -> importance.Weighted:
        """Importance points of an answer in these coordinates."""
        return importance.weigh(self.prior, answer, self.observations, self.images, count, seed, self.shares)

    def rows(self, index: Tensor) -> LocalProblem:
        there = index.to(self.prior.means.device)
        return LocalProblem(
            self.whole.rows(index),
            self.axes,
            self.shift[index],
            self.scale[index],
            self.prior64.rows(index),
            self.observations64.rows_of(index),
            self.prior.rows(there),
            self.observations.rows_of(there),
            self.partial,
            self.images.rows(there),
            self.shares,
            None if self.scan is None else self.scan.rows(there),
        )

    def extend(self, answer: GaussianMixture, source: Tensor | None = None) -> GaussianMixture:
        """Extend an answer to all coordinates of the state, in its own units.

        `source` ``(B, J)`` is the prior component of each part if known; otherwise responsibilities weigh the
        components.
        """
        answer = answer.to(dtype=torch.float64, device=torch.device("cpu"))
        means = answer.means * self.scale[:, None, None] + self.shift[:, None]
        covariances = answer.covariances * self.scale[:, None, None, None].square()
        if not self.partial:
            order = torch.argsort(torch.tensor(self.axes))
            return GaussianMixture(
                answer.log_weights, means[..., order], covariances[..., order, :][..., order]
            )
        if source is None:
            if is_native(means, self.whole.means):
                stated = GaussianMixture(answer.log_weights, means, covariances)
                limits = LEAST_RESPONSIBILITY, MERGED_BELOW
                found: GaussianMixture = native_extension.extend(stated, self.whole, self.axes, *limits)
                return found
            shares = responsibilities(answer, self.prior64)
        else:
            shares = torch.nn.functional.one_hot(source.cpu(), self.whole.components).to(means.dtype)
        return extend(GaussianMixture(answer.log_weights, means, covariances), shares, self.whole, self.axes)

    def localise(self, whole: GaussianMixture) -> GaussianMixture:
        """The marginal of a mixture over the state in local coordinates, in the network's precision."""
        return (
            whole.marginal(self.axes)
            .in_coordinates(self.shift, self.scale)
            .to(dtype=self.prior.means.dtype, device=self.prior.means.device)
        )
