"""Bayesian update: a prior and observations in, the posterior and its quality out.

1. If all sensors of an entity are linear and have no outliers, a Kalman update gives the exact posterior.
2. The other entities go through the Distribution Transformer, in the coordinates that their sensors touch. These are
   shifted and scaled to zero mean and unit spread. Coordinates that no sensor touches follow exactly. For a state s
   with y = H s observed, let token j refine component k. Then ``m ← m + G (m'_j − H m)`` and
   ``P ← P − G (H P Hᵀ − S'_j) Gᵀ``, with ``G = P Hᵀ (H P Hᵀ)⁻¹``.
3. If the observations are nearly linear over each component, a linearised update replaces the network
   (`nearly_linear`). Its error vanishes with their information, so the errors of many weak updates do not add up.
4. Of observations in the plane, one quadrature gives the posterior: of one range or bearing around its sensor
   (`plane.single_observation`), of several over cells (`plane.several_observations`). Of others that are weak beside
   the prior, the prior's nodes give exact moments (`quadrature`).
5. Every answer of the network is reduced and checked (`inference.update.checked_network`). Where the check is poor or
   may miss a mode, the problem is searched, and the answer refined and measured (`inference.update.thorough_network`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network.transformer import DistributionTransformer
from beliefstream.inference.update.checked_network import CheckedNetwork
from beliefstream.inference.update.closed_update import kalman, linearised
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.mode_search import bend
from beliefstream.inference.update.quadrature_update import linear_share, settle
from beliefstream.inference.update.result import Method, Update, joined
from beliefstream.inference.update.scaled_problem import Posed, Scaled, pose
from beliefstream.inference.update.settings import ENOUGH, UpdateSettings
from beliefstream.inference.update.simulated_surprise import simulated_surprise
from beliefstream.inference.update.thorough_network import ThoroughNetwork
from beliefstream.inference.update.trimming import power_of_two, shape_code, trimmed

__all__ = ["Method", "Update", "UpdateSettings", "Updater"]

_OPEN, _CLOSED, _NEARLY_LINEAR, _SETTLED = range(4)  # how a problem is solved; open ones reach the network
# below this surprise, observations may be outliers: the scan of the prior starts at a bend this many times smaller
UNLIKELY, SOONER = 0.05, 10_000.0
GENTLE = 100.0  # below the search limit by this factor, a sensor is only slightly nonlinear
DOUBTED = 0.85  # effective sample size that is enough for a moderately nonlinear sensor
SHARP = 1e3  # prior spread, in standard deviations of the noise, that single precision can resolve


class Updater:
    """Updates beliefs with observations, by the network or in closed form; tensors in and out are float64 on the CPU.

    Args:
        network: copied to `device` and `dtype` if it is elsewhere.
        device: where the network runs; the CPU by default.
        settings: accuracy against cost.
        dtype: precision of the network. In float32 sums round differently in batches of different sizes, which can
            change a decision to merge or refine. In float64 an answer does not depend on the rest of its batch, except
            after refinement, whose rounds amplify the rounding.
    """

    def __init__(
        self,
        network: DistributionTransformer,
        device: torch.device | None = None,
        settings: UpdateSettings | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device, self.dtype = device or torch.device("cpu"), dtype
        if any(
            parameter.dtype != dtype or parameter.device != self.device for parameter in network.parameters()
        ):
            network = deepcopy(network).to(self.device, dtype)  # leave the caller's network as it is
        self.network = network.eval()
        self.settings = settings or UpdateSettings()
        self._checked = CheckedNetwork(self.network, self.settings)
        self._others: dict[int, Updater] = {}  # by their number of components

    def with_components(self, components: int) -> Updater:
        """The same updater with another limit on the number of components."""
        if components == self.settings.components:
            return self
        if components not in self._others:
            self._others[components] = self._with(replace(self.settings, components=components))
        return self._others[components]

    def _with(self, settings: UpdateSettings) -> Updater:
        return Updater(self.network, self.device, settings, self.dtype)

    @property
    def has_closed_forms(self) -> bool:
        """Whether answers in closed form may come from elsewhere; not of a subclass with an update of its own."""
        return type(self).update is Updater.update

    @torch.inference_mode()
    def update(self, prior: GaussianMixture, observations: Observations) -> Update:
        """Posterior of every entity, from `prior` ``(B, K, D)`` and `observations` over the same ``D`` coordinates.

        Raises ValueError if batch or dimension differ, or if an entity has no observation.
        """
        if prior.batch != observations.batch or prior.dimension != observations.dimension:
            raise ValueError(
                f"observations: {observations.batch} × {observations.dimension} coordinates do not match a prior of "
                f"{prior.batch} × {prior.dimension}"
            )
        used = observations.mask
        if not bool(used.any(1).all()):
            raise ValueError("observations: every entity needs at least one")
        posed = pose(prior, observations, self.settings.linear_below)
        limit = self.settings.linear_below * linear_share(posed, observations, self.settings)
        code = torch.where(posed.divergence < limit, _NEARLY_LINEAR, _OPEN)
        code = torch.where(posed.closed, _CLOSED, code)
        parts = list(self._closed(posed, code))
        if bool((code == _OPEN).any()):
            prior, touched, scaled = posed.parts
            index, settled = settle(prior, observations, touched, scaled, code == _OPEN, self.settings)
            if settled is not None:
                code[index] = _SETTLED
                parts.append((index, settled))
        index = torch.nonzero(code == _OPEN)[:, 0]
        if len(index):
            problems = _Problems(posed, observations, self.settings.components)
            parts.extend(self._by_network(problems, index, problems.codes))
        found = joined(parts) if len(parts) > 1 else parts[0][1]  # one part has every entity, in order
        if observations.likelihoods is not None:
            found = replace(found, surprise=simulated_surprise(posed.prior, observations, found.surprise))
        return found

    def _closed(self, posed: Posed, code: Tensor) -> Iterator[tuple[Tensor, Update]]:
        """Update in closed form where that is exact, or nearly."""
        kinds = set(code.tolist())
        if _CLOSED in kinds:
            index = torch.nonzero(code == _CLOSED)[:, 0]
            yield index, kalman(posed, index, self.settings)
        if _NEARLY_LINEAR in kinds:
            index = torch.nonzero(code == _NEARLY_LINEAR)[:, 0]
            yield index, linearised(posed.scaled, index, posed.divergence[index], self.settings)

    def _by_network(
        self, problems: _Problems, index: Tensor, code: Tensor
    ) -> Iterator[tuple[Tensor, Update]]:
        """Update in one pass where that can be trusted, else thoroughly; problems of one `code` have one shape."""
        settings = self.settings
        doubted, weak = torch.zeros(2, len(code), dtype=torch.bool)
        posed, least = problems.posed.scaled.rows(index), torch.zeros(len(code), dtype=torch.float64)
        above, doubted[index] = self._trusted_above(posed)
        wanted = settings.least_size(posed.gained)
        least[index] = torch.maximum(above, wanted).clamp_min(settings.defend_below)
        weak[index] = wanted > settings.refine_below
        hard = least[index] > 1
        again = [index[hard]]
        for some in _alike(index[~hard], code):
            found = self._in_one_pass(problems, some)
            at = torch.nonzero(doubted[some] & (found.effective_sample_size >= least[some]))[:, 0]
            if len(at):
                local, _ = problems.local(some[at], self.device, torch.float64, True)
                found = found.with_rows(at, self._thorough.scanned(local, found.rows(at)))
            poor = found.effective_sample_size < least[some]
            good = torch.nonzero(~poor)[:, 0]
            again.append(some[poor])
            if len(good):
                yield some[good], found.rows(good)
        left = torch.cat(again).sort().values
        if len(left) == 0:
            return
        shapes = problems.shapes(left)
        for chosen, network in ((~weak[left], self._thorough), (weak[left], self._more_thorough)):
            for some in _alike(left[chosen], code):
                for alike in _alike(some, shapes):
                    yield alike, network.update(*problems.local(alike, self.device, torch.float64, True))

    def _in_one_pass(self, problems: _Problems, index: Tensor) -> Update:
        """The network's checked answers; problems of the user are computed in double precision, for any function."""
        if bool(problems.observations.has_problem[index[0]]):
            return self._in_double.update(*problems.local(index, self.device, torch.float64))
        return self._checked.update(*problems.local(index, self.device, self.dtype))

    @cached_property
    def _thorough(self) -> ThoroughNetwork:
        return ThoroughNetwork(deepcopy(self.network).double(), self.settings)

    @cached_property
    def _more_thorough(self) -> ThoroughNetwork:
        """For weak observations."""
        refine, repeat = self.settings.refine_below, self.settings.repeat_below
        settings = replace(self.settings, refine_below=max(refine, ENOUGH), repeat_below=max(repeat, ENOUGH))
        return ThoroughNetwork(self._thorough.network, settings)

    @cached_property
    def _in_double(self) -> CheckedNetwork:
        return CheckedNetwork(self._thorough.network, self.settings)

    def _trusted_above(self, problem: Scaled) -> tuple[Tensor, Tensor]:
        """The effective sample size ``(B,)`` above which one pass of the network is trusted, and which answers to scan.

        It is infinite where one pass may miss a part of the posterior unnoticed: it is not tried there. The second
        result, ``(B,)`` bool, marks the answers to compare with a scan of the prior too.
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
        # a problem has no residual whose bend could be measured
        doubted = (unlikely & outliers & (bent > limit / SOONER)) | observations.has_problem
        doubted |= bent > limit / GENTLE
        above = torch.where(doubted, DOUBTED, 0.0)
        return torch.where(never, math.inf, above).double(), doubted


@dataclass(frozen=True)
class _Problems:
    """A batch of problems, with the quantities that all methods share."""

    posed: Posed
    observations: Observations
    usual: int  # components of a prior that has not grown

    @cached_property
    def codes(self) -> Tensor:
        """A code for each entity ``(B,)``: its touched coordinates, if its prior has grown, if it has a problem."""
        size, touched = self.posed.prior.dimension, self.posed.touched
        found = (touched * (1 << torch.arange(size))).sum(1)
        # a prior that grew beyond the usual number of components takes more tokens
        return found + (self.grown * (1 << size)) + (self.observations.has_problem * (2 << size))

    @cached_property
    def grown(self) -> Tensor:
        """Which priors have more than the usual number of components, ``(B,)`` bool."""
        return self.posed.prior.present.sum(1) > self.usual

    def shapes(self, index: Tensor) -> Tensor:
        """A code for each entity ``(B,)``; entities of `index` with the same code have tensors of one shape."""
        codes = torch.zeros(self.posed.prior.batch, dtype=torch.int64)
        count = self.posed.prior.present[index].sum(1).clamp_min(self.usual)
        codes[index] = shape_code(self.observations.rows_of(index)) * 64 + power_of_two(count)
        return codes

    def local(
        self, index: Tensor, device: torch.device, dtype: torch.dtype, alone: bool = False
    ) -> tuple[LocalProblem, Tensor]:
        """The entities at `index`, all of one shape, and the surprise of their observations.

        `alone` removes the padding that only other entities of the batch need.
        """
        prior, scaled = self.posed.prior.rows(index), self.posed.scaled
        axes = torch.nonzero(self.posed.touched[index[0]])[:, 0].tolist()
        if not bool(self.grown[index[0]]):
            prior = prior.places(torch.arange(min(prior.components, self.usual)).expand(prior.batch, -1))
        observations = self.observations.rows_of(index)
        if observations.likelihoods is not None and not bool(observations.has_problem.any()):
            observations = replace(observations, likelihoods=None)
        if alone:
            observations = trimmed(observations)
            count = prior.present.sum(1).clamp_min(self.usual)
            prior = prior.padded(1 << int(power_of_two(count).max()))
        local = LocalProblem.of(prior, observations, axes, device, dtype)
        return local, scaled.prediction.rows_of(index).surprise(scaled.prior.rows(index))


def _alike(index: Tensor, code: Tensor) -> Iterator[Tensor]:
    """Split `index` into parts of one code each."""
    for pattern in sorted(set(code[index].tolist())):
        yield index[code[index] == pattern]
