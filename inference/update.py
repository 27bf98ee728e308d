"""Prior and observations in, posterior and its quality out: the one door for callers.

1. Entities whose sensors are all linear and without outliers take the closed form (Kalman), which is exact.
2. The others go through the Distribution Transformer in the coordinates their sensors touch, shifted and scaled to
   zero mean and unit spread. Coordinates that no sensor touches follow exactly: for a state s with y = H s observed
   and token j a refinement of component k, ``m ← m + G (m'_j − H m)`` and ``P ← P − G (H P Hᵀ − S'_j) Gᵀ`` with
   ``G = P Hᵀ (H P Hᵀ)⁻¹``.
3. Where the observations are all but linear over each component, a linearised update takes the place of the network
   (`nearly_linear`): its error vanishes with what they say, so that many in a row do not add up.
4. Where they are weak beside the prior, however bent, exact moments by quadrature do (`settling`, `quadrature`).
5. Every answer of the network is reduced, checked and where needed refined: see `inference.checked`.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor

from inference import nearly_linear
from inference.accuracy import Settings
from inference.checked import CheckedNetwork
from inference.compilation import Compiled
from inference.local import LocalProblem
from inference.mixture import GaussianMixture
from inference.mode_search import bend
from inference.observations import LINEAR, Observations
from inference.reduction import reduce
from inference.results import Method, Update, joined
from inference.scaled import Scaled
from inference.settling import settle
from inference.transformer import DistributionTransformer

__all__ = ["Method", "Settings", "Update", "Updater"]

SETTLED = -3  # by quadrature


class Updater:
    """Holds the network on its device; `update` takes and returns float64 on the CPU.

    `dtype` is what the network computes in. In float32 a sum rounds differently in a batch of another size, which now
    and then tips a decision to merge or to refine; in float64 an answer does not depend on the rest of its batch, but
    for refined ones, whose rounds make more of the rounding.
    `compiled` is used where it has a package that fits.
    """

    def __init__(
        self,
        network: DistributionTransformer,
        device: torch.device | None = None,
        settings: Settings | None = None,
        dtype: torch.dtype = torch.float32,
        compiled: Compiled | None = None,
    ) -> None:
        self.device, self.dtype = device or torch.device("cpu"), dtype
        if any(
            parameter.dtype != dtype or parameter.device != self.device for parameter in network.parameters()
        ):
            network = deepcopy(network).to(self.device, dtype)  # the caller's stays as it is
        self.network = network.eval()
        self.settings = settings or Settings()
        self.compiled = compiled
        self._checked = CheckedNetwork(self.network, self.settings, compiled)

    def with_components(self, components: int) -> Updater:
        """The same network with another bound on the number of components."""
        if components == self.settings.components:
            return self
        settings = replace(self.settings, components=components)
        return Updater(self.network, self.device, settings, self.dtype, self.compiled)

    @torch.inference_mode()
    def update(self, prior: GaussianMixture, observations: Observations) -> Update:
        """Posterior of every entity, `prior` ``(B, K, D)`` and `observations` over the same ``D`` coordinates.

        Raises ValueError if their batch or dimension differ, or an entity has no observation.
        """
        if prior.batch != observations.batch or prior.dimension != observations.dimension:
            raise ValueError(
                f"observations: {observations.batch} × {observations.dimension} coordinates do not match a prior of "
                f"{prior.batch} × {prior.dimension}"
            )
        used = observations.mask
        if not bool(used.any(1).all()):
            raise ValueError("observations: every entity needs at least one")
        # points are shared out in the order of the components, and what is given in another order is the same prior
        prior = prior.ordered()
        if prior.components > self.settings.most_components:
            prior = reduce(prior, self.settings.most_components, self.settings.merge_below)
        plain = (observations.kind == LINEAR) & (observations.outlier_probability == 0)
        closed = (plain | ~used).all(1)
        touched = (observations.matrix != 0).any(2) | (observations.heading != 0)
        touched = (touched & used[..., None]).any(1)
        code = (touched * (1 << torch.arange(prior.dimension))).sum(1)
        # a prior that grew beyond the usual number of components takes more tokens
        usual = self.settings.components
        grown = prior.present.sum(1) > usual
        code = code + (grown * (1 << prior.dimension))
        scaled, below = Scaled.of(prior, observations, touched), self.settings.linear_below
        divergence = nearly_linear.divergence(scaled.prior, scaled.observations, below, scaled.linear)
        nearly = divergence < below
        code = torch.where(closed, -1, torch.where(nearly, -2, code))
        parts: list[tuple[Tensor, Update]] = []
        index, settled = settle(prior, observations, touched, scaled, ~closed & ~nearly, self.settings)
        if settled is not None:
            code[index] = SETTLED
            parts.append((index, settled))
        for pattern in sorted(set(code.tolist()) - {SETTLED}):
            index = torch.nonzero(code == pattern)[:, 0]
            some, seen = prior.rows(index), observations.rows_of(index)
            if pattern == -1:
                parts.append((index, self._kalman(scaled.rows(index))))
            elif pattern == -2:
                parts.append((index, self._linearised(scaled.rows(index), divergence[index])))
            else:
                axes = torch.nonzero(touched[index[0]])[:, 0].tolist()
                if not bool(grown[index[0]]):
                    some = some.places(torch.arange(min(some.components, usual)).expand(some.batch, -1))
                parts.append((index, self._transformed(some, seen, axes, scaled.rows(index))))
        return joined(parts) if len(parts) > 1 else parts[0][1].rows(torch.argsort(parts[0][0]))

    def _reduced(self, mixture: GaussianMixture) -> GaussianMixture:
        return reduce(mixture, self.settings.most_components, self.settings.merge_below)

    def _kalman(self, problem: Scaled) -> Update:
        """Exact: one Kalman update a component, weighted by its evidence."""
        prior, prediction = problem.prior, problem.prediction
        posterior = prediction.posterior(prior).normalised()
        count = prior.batch
        return Update(
            self._reduced(problem.back(posterior)),
            torch.ones(count, dtype=torch.float64),
            torch.logsumexp(prior.log_weights + prediction.log_evidence, 1),
            prediction.surprise(prior),
            torch.full((count,), Method.KALMAN, dtype=torch.int64),
        )

    def _linearised(self, problem: Scaled, divergence: Tensor) -> Update:
        """One linearised update a component and hypothesis of an outlier: exact where all sensors are linear."""
        prior, most = problem.prior, self.settings.most_components
        posterior, evidence = nearly_linear.update(
            prior, problem.observations, most, self.settings.merge_below, problem.linear
        )
        surprise = problem.prediction.surprise(prior)
        method = torch.where(divergence > 0, int(Method.LINEARISED), int(Method.KALMAN))
        # of two Gaussians that are near, the chi-square divergence is twice the Kullback-Leibler divergence
        return Update(problem.back(posterior), 1 / (1 + 2 * divergence), evidence, surprise, method)

    def _transformed(
        self, prior: GaussianMixture, observations: Observations, axes: list[int], problem: Scaled
    ) -> Update:
        local = LocalProblem.of(prior, observations, axes, self.device, self.dtype)
        surprise = problem.prediction.surprise(problem.prior)
        return self._checked.update(local, surprise, bend(problem))
