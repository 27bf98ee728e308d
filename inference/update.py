"""Prior and observations in, posterior and its quality out: the one door for callers.

1. Entities whose sensors are all linear and without outliers take the closed form (Kalman), which is exact.
2. The others go through the Distribution Transformer in the coordinates their sensors touch, shifted and scaled to
   zero mean and unit spread. Coordinates that no sensor touches follow exactly: for a state s with y = H s observed
   and token j a refinement of component k, ``m ← m + G (m'_j − H m)`` and ``P ← P − G (H P Hᵀ − S'_j) Gᵀ`` with
   ``G = P Hᵀ (H P Hᵀ)⁻¹``.
3. Where the observations are all but linear over each component, a linearised update takes the place of the network
   (`nearly_linear`): its error vanishes with what they say, so that many in a row do not add up.
4. Where they are weak beside the prior, however bent, exact moments by quadrature do (`settling`, `quadrature`).
5. Every answer of the network is reduced and checked (`inference.checked`). What it might miss, and what the check
   finds poor, is searched, refined and measured again (`inference.thorough`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from inference import nearly_linear
from inference.accuracy import Settings
from inference.checked import CheckedNetwork
from inference.compilation import Compiled
from inference.condensing import condense
from inference.local import LocalProblem
from inference.mixture import GaussianMixture
from inference.mode_search import bend
from inference.observations import LINEAR, Observations, power_of_two
from inference.results import Method, Update, joined
from inference.scaled import Scaled
from inference.settling import settle
from inference.thorough import ThoroughNetwork, scanned
from inference.transformer import DistributionTransformer

__all__ = ["Method", "Settings", "Update", "Updater"]

_CLOSED, _NEARLY_LINEAR, _SETTLED = -1, -2, -3  # codes of problems that do not reach the network
# where observations so unlikely may be outliers, the prior is scanned that much sooner
UNLIKELY, SOONER = 0.05, 10_000.0
GENTLE = 100.0  # times less, a sensor bends just a little
DOUBTED = 0.85  # effective sample size that is enough where a sensor bends somewhat
SHARP = 1e3  # standard deviations of the noise that single precision can tell across the prior


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
        code = torch.where(closed, _CLOSED, torch.where(divergence < below, _NEARLY_LINEAR, code))
        problems = _Problems(prior, observations, scaled, touched, grown, usual)
        parts: list[tuple[Tensor, Update]] = []
        index, settled = settle(prior, observations, touched, scaled, code >= 0, self.settings)
        if settled is not None:
            code[index] = _SETTLED
            parts.append((index, settled))
        for pattern, solve in ((_CLOSED, self._kalman), (_NEARLY_LINEAR, self._linearised)):
            index = torch.nonzero(code == pattern)[:, 0]
            if len(index):
                parts.append((index, solve(scaled.rows(index), divergence[index])))
        index = torch.nonzero(code >= 0)[:, 0]
        if len(index):
            parts.extend(self._by_network(problems, index, code))
        return joined(parts) if len(parts) > 1 else parts[0][1].rows(torch.argsort(parts[0][0]))

    def _by_network(
        self, problems: _Problems, index: Tensor, code: Tensor
    ) -> Iterator[tuple[Tensor, Update]]:
        """In one pass where that can be trusted, else thoroughly; `code` tells which problems are of one shape."""
        settings = self.settings
        usual = max(settings.refine_below, settings.defend_below)
        least = torch.full((len(code),), usual, dtype=torch.float64)
        doubted = torch.zeros(len(code), dtype=torch.bool)
        above, doubted[index] = self._trusted_above(problems.scaled.rows(index))
        least[index] = above.clamp_min(usual)
        hard = least[index] > 1
        again = [index[hard]]
        for some in _alike(index[~hard], code):
            found = self._checked.update(*problems.local(some, self.device, self.dtype))
            at = torch.nonzero(doubted[some] & (found.effective_sample_size >= least[some]))[:, 0]
            if len(at):
                local, _ = problems.local(some[at], self.device, torch.float64, True)
                found = found.with_rows(at, scanned(local, found.rows(at)))
            poor = found.effective_sample_size < least[some]
            good = torch.nonzero(~poor)[:, 0]
            again.append(some[poor])
            if len(good):
                yield some[good], found.rows(good)
        left = torch.cat(again).sort().values
        shapes = problems.shapes(left)
        for some in _alike(left, code):
            for alike in _alike(some, shapes):
                yield alike, self._thorough.update(*problems.local(alike, self.device, torch.float64, True))

    def _kalman(self, problem: Scaled, _: Tensor) -> Update:
        """Exact: one Kalman update a component, weighted by its evidence; what reducing it costs is measured."""
        prior, prediction = problem.prior, problem.prediction
        exact = problem.back(prediction.posterior(prior).normalised())
        posterior, loss = condense(exact, self.settings.most_components, self.settings.merge_below)
        return Update(
            posterior,
            (-loss).exp(),
            torch.logsumexp(prior.log_weights + prediction.log_evidence, 1),
            prediction.surprise(prior),
            torch.full((prior.batch,), Method.KALMAN, dtype=torch.int64),
            loss,
        )

    def _linearised(self, problem: Scaled, divergence: Tensor) -> Update:
        """One linearised update a component and hypothesis of an outlier: exact where all sensors are linear."""
        prior, most = problem.prior, self.settings.most_components
        posterior, evidence, loss = nearly_linear.update(
            prior, problem.observations, most, self.settings.merge_below, problem.linear
        )
        surprise = problem.prediction.surprise(prior)
        method = torch.where(divergence > 0, int(Method.LINEARISED), int(Method.KALMAN))
        # of two Gaussians that are near, the chi-square divergence is twice the Kullback-Leibler divergence
        size = (-loss).exp() / (1 + 2 * divergence)
        return Update(problem.back(posterior), size, evidence, surprise, method, divergence + loss)

    @cached_property
    def _thorough(self) -> ThoroughNetwork:
        return ThoroughNetwork(deepcopy(self.network).double(), self.settings, None)

    def _trusted_above(self, problem: Scaled) -> tuple[Tensor, Tensor]:
        """The effective sample size above which one pass in the network's precision is believed ``(B,)``.

        Infinite where it may miss a part of the posterior and not see it: it is not tried there. And where its answer
        is to be held against a scan of the prior too, ``(B,)`` bool.
        """
        limit, observations = self.settings.search_above, problem.observations
        information = problem.linear.information.diagonal(dim1=-2, dim2=-1).amax(-1)
        used = problem.prior.present[..., None] & observations.mask[:, None]
        never = torch.where(used, information, 0.0).amax((1, 2)) > SHARP**2
        if limit == math.inf:
            return torch.where(never, math.inf, 0.0).double(), torch.zeros_like(never)
        bent = bend(problem)
        unlikely = problem.prediction.surprise(problem.prior) < UNLIKELY
        outliers = (observations.mask & (observations.outlier_probability > 0)).any(1)
        irregular = (observations.mask & observations.is_irregular).any(1)
        never |= (bent > limit) | (irregular & (bent > limit / GENTLE))
        doubted = unlikely & outliers & (bent > limit / SOONER)
        above = torch.where(doubted | (bent > limit / GENTLE), DOUBTED, 0.0)
        return torch.where(never, math.inf, above).double(), doubted


@dataclass(frozen=True)
class _Problems:
    """A batch with what is known of it."""

    prior: GaussianMixture
    observations: Observations
    scaled: Scaled
    touched: Tensor
    grown: Tensor
    usual: int  # components of a prior that has not grown

    def shapes(self, index: Tensor) -> Tensor:
        """A code for each entity ``(B,)``, of which those of `index` that have the same make one shape of tensors."""
        codes = torch.zeros(self.prior.batch, dtype=torch.int64)
        count = self.prior.present[index].sum(1).clamp_min(self.usual)
        codes[index] = self.observations.rows_of(index).shape_code * 64 + power_of_two(count)
        return codes

    def local(
        self, index: Tensor, device: torch.device, dtype: torch.dtype, trimmed: bool = False
    ) -> tuple[LocalProblem, Tensor]:
        """Some of the entities, all of one shape, with the surprise of their observations.

        `trimmed` leaves nothing in their tensors that is there for others of the batch.
        """
        prior, scaled = self.prior.rows(index), self.scaled.rows(index)
        axes = torch.nonzero(self.touched[index[0]])[:, 0].tolist()
        if not bool(self.grown[index[0]]):
            prior = prior.places(torch.arange(min(prior.components, self.usual)).expand(prior.batch, -1))
        observations = self.observations.rows_of(index)
        if trimmed:
            observations = observations.trimmed()
            count = prior.present.sum(1).clamp_min(self.usual)
            prior = prior.padded(1 << int(power_of_two(count).max()))
        local = LocalProblem.of(prior, observations, axes, device, dtype)
        return local, scaled.prediction.surprise(scaled.prior)


def _alike(index: Tensor, code: Tensor) -> Iterator[Tensor]:
    """`index` in parts of one code each."""
    for pattern in sorted(set(code[index].tolist())):
        yield index[code[index] == pattern]
