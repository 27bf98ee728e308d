"""Bayesian update: a prior and observations in, the posterior and its quality out.

1. If all sensors of an entity are linear and have no outliers, a Kalman update gives the exact posterior.
2. The other entities go through the Distribution Transformer, in the coordinates that their sensors touch. These are
   shifted and scaled to zero mean and unit spread. Coordinates that no sensor touches follow exactly. For a state s
   with y = H s observed, let token j refine component k. Then ``m ← m + G (m'_j − H m)`` and
   ``P ← P − G (H P Hᵀ − S'_j) Gᵀ``, with ``G = P Hᵀ (H P Hᵀ)⁻¹``.
3. If the observations are nearly linear over each component, a linearised update replaces the network
   (`nearly_linear`). Its error vanishes with their information, so the errors of many weak updates do not add up.
4. Quadrature gives the posterior of one range or bearing along it, where it bends little (`curved`), and in the plane
   else around its sensor (`plane.single_observation`); of several in the plane over cells
   (`plane.several_observations`). Of others that are weak beside the prior, the prior's nodes give exact moments
   (`quadrature`). Where it fails for outliers or noise of several parts, each hypothesis about them is updated alone
   (`plane.hypotheses`).
5. Errors of sensors that last are hidden coordinates. Where they are not nearly linear, `persistent` takes them out.
6. Every answer of the network is reduced, checked, and refined while it is poor. Few problems are searched for modes
   (`network`). Where functions take other coordinates than all other observations, an answer in two steps replaces that
   of the network (`in_two_steps`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import ANGLE, Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network.transformer import DistributionTransformer
from beliefstream.inference.update.check.local_problem import LocalProblem
from beliefstream.inference.update.check.simulated_p_value import simulated_p_value
from beliefstream.inference.update.closed.nearly_linear import missed
from beliefstream.inference.update.closed.scaled_problem import Posed, Scaled, pose
from beliefstream.inference.update.closed.updates import disagree, kalman, linearised
from beliefstream.inference.update.devices import DeviceCapacity, DeviceNetwork, OutOfMemory, is_memory
from beliefstream.inference.update.in_two_steps import TwoSteps, has_hypotheses, seen_first
from beliefstream.inference.update.network import PLANE, CheckedNetwork, ThoroughNetwork, Wanted
from beliefstream.inference.update.persistent import several_observations
from beliefstream.inference.update.plane.hypotheses import by_hypotheses
from beliefstream.inference.update.quadrature import linear_share, settle
from beliefstream.inference.update.result import Method, Update, joined
from beliefstream.inference.update.settings import UNLIKELY, UpdateSettings

__all__ = ["Method", "Update", "UpdateSettings", "Updater"]

_OPEN, _CLOSED, _NEARLY_LINEAR, _SETTLED = range(4)  # how a problem is solved; open ones reach the network

# Below this, a sensor is only slightly nonlinear; set on hard problems, as `UNLIKELY`.
GENTLE = 3.0
# possible outliers; of fewer, `randomised_images` leaves out enough. Without, 7 of 16 problems with two places in space
# are dishonest (seed 69003)
FEWEST_SETS = 4


class Updater:
    """Updates beliefs with observations, by the network or in closed form; tensors in and out are float64 on the CPU.

    Args:
        network: copied to `device` and `dtype` if it is elsewhere; one that is on its device already stays there.
        device: where the network runs; the CPU by default.
        settings: accuracy against cost.
        dtype: precision of the network. In float32 sums round differently in batches of different sizes, which can
            change a decision to merge or refine. In float64 an answer does not depend on the rest of its batch, except
            after refinement, whose rounds amplify the rounding.
        capacity: how many entities the device has room for.
    """

    def __init__(
        self,
        network: DistributionTransformer | DeviceNetwork,
        device: torch.device | None = None,
        settings: UpdateSettings | None = None,
        dtype: torch.dtype = torch.float32,
        capacity: DeviceCapacity | None = None,
    ) -> None:
        if not isinstance(network, DeviceNetwork):
            network = DeviceNetwork(network, device or torch.device("cpu"), dtype, capacity)
        self._network, self.settings = network, settings or UpdateSettings()
        self._others: dict[int, Updater] = {}  # by their number of components

    @property
    def network(self) -> DistributionTransformer:
        return self._network.network

    @property
    def device(self) -> torch.device:
        return self._network.device

    def with_components(self, components: int) -> Updater:
        """The same updater with another limit on the number of components."""
        if components == self.settings.components:
            return self
        if components not in self._others:
            self._others[components] = self.with_settings(replace(self.settings, components=components))
        return self._others[components]

    def with_settings(self, settings: UpdateSettings) -> Updater:
        """An updater of the same network with other settings."""
        return Updater(self._network, settings=settings)

    @property
    def has_closed_forms(self) -> bool:
        """Whether answers in closed form may come from elsewhere; not of a subclass with an update of its own."""
        return type(self).update is Updater.update

    @torch.inference_mode()
    def update(self, prior: GaussianMixture, observations: Observations, *, simulated: bool = True) -> Update:
        """Posterior of every entity, from `prior` ``(B, K, D)`` and `observations` over the same ``D`` coordinates.

        `simulated` is whether the p-values of a user's likelihoods come from its simulator; otherwise they are rough.

        Raises ValueError if batch or dimension differ, or an entity has no observation; OutOfMemory if there is none.
        """
        try:
            return self._updated(prior, observations, simulated)
        except RuntimeError as error:
            if not is_memory(error):
                raise
            raise OutOfMemory(f"update: no memory for {prior.batch} entities") from error

    def _updated(self, prior: GaussianMixture, observations: Observations, simulated: bool = False) -> Update:
        if prior.batch != observations.batch or prior.dimension != observations.dimension:
            raise ValueError(
                f"observations: {observations.batch} × {observations.dimension} coordinates do not match a prior of "
                f"{prior.batch} × {prior.dimension}"
            )
        used = observations.mask
        if not bool(used.any(1).all()):
            raise ValueError("observations: every entity needs at least one")
        posed, code, parts = self._before_network(prior, observations)
        open_ = (code == _OPEN) & (posed.touched.sum(1) <= PLANE)
        if bool(open_.any()) and self.settings.quadrature_below:
            for index, update in by_hypotheses(prior, observations, open_, self._updated, self.settings):
                code[index] = _SETTLED
                problem = posed.scaled.rows(index)
                p_value = problem.prediction.p_value(problem.prior)
                parts.append((index, replace(update, p_value=p_value)))
        index = torch.nonzero(code == _OPEN)[:, 0]
        if len(index):
            problems = _Problems(posed, observations, self.settings.components)
            parts.extend(self._by_network(problems, index, problems.codes))
        update = joined(parts) if len(parts) > 1 else parts[0][1]  # one part has every entity, in order
        if simulated and observations.likelihoods is not None:
            update = replace(update, p_value=simulated_p_value(posed.prior, observations, update.p_value))
        return update

    def _before_network(
        self, prior: GaussianMixture, observations: Observations
    ) -> tuple[Posed, Tensor, list[tuple[Tensor, Update]]]:
        """Answers in closed form, by quadrature, or with errors that last, and a code of each entity ``(B,)``.

        The code is `_OPEN` where there is no answer yet.
        """
        posed = pose(prior, observations, self.settings.linear_below)
        limit = self.settings.linear_below * linear_share(posed, observations, self.settings)
        code = torch.where(posed.divergence < limit, _NEARLY_LINEAR, _OPEN)
        code = torch.where(posed.closed, _CLOSED, code)
        parts: list[tuple[Tensor, Update]] = []
        if observations.hidden is not None and bool((code == _OPEN).any()):
            index = torch.nonzero(code == _OPEN)[:, 0]
            code[index] = _SETTLED
            parts.append((index, self._with_errors(posed, observations, index)))
        # where light hypotheses count, quadrature in the plane is exact, and a mixture of hypotheses is not
        open_ = (code == _OPEN) | (
            (code == _NEARLY_LINEAR) & (posed.touched.sum(1) == PLANE) & disagree(posed.scaled)
        )
        if bool(open_.any()):
            given = posed.prior, observations, posed.touched, posed.scaled
            index, settled = settle(*given, open_, self.settings)
            if settled is not None:
                code[index] = _SETTLED
                parts.append((index, settled))
        parts.extend(self._closed(posed, code))
        return posed, code, parts

    def _closed(self, posed: Posed, code: Tensor) -> Iterator[tuple[Tensor, Update]]:
        """Update in closed form where that is exact, or nearly."""
        kinds = set(code.tolist())
        if _CLOSED in kinds:
            index = torch.nonzero(code == _CLOSED)[:, 0]
            yield index, kalman(posed, index, self.settings)
        if _NEARLY_LINEAR in kinds:
            index = torch.nonzero(code == _NEARLY_LINEAR)[:, 0]
            yield index, linearised(posed.scaled, index, posed.divergence[index], self.settings)

    def _with_errors(self, posed: Posed, observations: Observations, index: Tensor) -> Update:
        """Update the entities at `index`, whose sensors have errors that last."""
        scaled = posed.scaled.rows(index)
        given = posed.prior.rows(index), observations.rows_of(index), scaled.linear
        p_value = scaled.prediction.p_value(scaled.prior)
        return several_observations.update(*given, p_value, self._updated, self.settings)

    def _by_network(
        self, problems: _Problems, index: Tensor, code: Tensor
    ) -> Iterator[tuple[Tensor, Update]]:
        """Update by the network; problems of one `code` have one shape."""
        settings = self.settings
        if not settings.refine_below:
            for some in _groups(index, code):
                yield some, self._in_one_pass(problems, some)
            return
        posed, batch = problems.posed.scaled.rows(index), len(code)
        no = torch.zeros(batch, dtype=torch.bool)
        wanted = Wanted(torch.zeros(batch, dtype=torch.float64), no, no.clone())
        wanted.least[index] = settings.least_efficiency(posed.gained)
        wanted.doubted[index], wanted.search[index] = self._doubted(posed)
        first = seen_first(problems.observations)[1]
        # after a first step without hypotheses, no part is left that a check could miss
        stepwise = first.any(1)
        wanted.least[stepwise] = settings.repeat_below
        wanted.doubted[stepwise] &= has_hypotheses(problems.observations, first)[stepwise]
        shape = torch.stack([code, problems.shapes(index), stepwise & wanted.doubted], 1)
        alike = torch.cat([shape, first], 1).long()
        for part in _groups(index, torch.unique(alike, dim=0, return_inverse=True)[1]):
            local, p_value = problems.local(part, True)
            if bool(stepwise[part[0]]):
                local = self._started(local, bool(wanted.doubted[part[0]]))
            yield part, self._thorough.thorough(local, p_value, wanted.rows(part))

    def _started(self, local: LocalProblem, doubted: bool) -> LocalProblem:
        """Problems with an answer in two steps to start from; where `doubted`, points of a check come from it too."""
        axes, first = seen_first(local.observations)
        before, rest = (
            _trimmed(replace(local.observations, mask=mask))
            for mask in (first, local.observations.mask & ~first)
        )
        known = self._updated(local.prior, before).posterior
        steps = TwoSteps(known, torch.nonzero(axes[0])[:, 0].tolist(), local.prior, rest)
        return replace(
            local, start=steps.answer(self.settings), conditional=steps.proposal if doubted else None
        )

    def _doubted(self, problem: Scaled) -> tuple[Tensor, Tensor]:
        """Whose answers may lack a part of the posterior, and where modes are searched for in any case, ``(B,)``."""
        bent, unlikely = bend(problem), problem.prediction.p_value(problem.prior) < UNLIKELY
        possible = (problem.observations.mask & (problem.observations.outlier_probability > 0)).sum(1)
        thin = (bent > GENTLE) & (
            problem.prior.dimension <= PLANE
        )  # a ring or beam may lie between all points
        # a problem has no residual whose bend could be measured
        doubted = (bent > GENTLE) | (unlikely & (possible > 0)) | problem.observations.has_problem
        return doubted, thin | (unlikely & (possible >= FEWEST_SETS))

    def _in_one_pass(self, problems: _Problems, index: Tensor) -> Update:
        """The network's checked answers; problems of the user are computed in double precision, for any function."""
        has_problem = bool(problems.observations.has_problem[index[0]])
        network = self._network.double if has_problem else self._network
        return CheckedNetwork(network, self.settings).update(*problems.local(index))

    @cached_property
    def _thorough(self) -> ThoroughNetwork:
        return ThoroughNetwork(self._network.double, self.settings)


def bend(problem: Scaled) -> Tensor:
    """Nonlinearity of the observations over the prior, in standard deviations of their noise, the largest: ``(B,)``.

    It is the maximum of three numbers. First, the curvature of a residual over one standard deviation of a component.
    Second, the error of a linear model at two, as a function may be flat or straight just at a mean, and a distance on
    a line turns back at its sensor. Third, if the noise is not one Gaussian, the spread of the expected value in its
    narrowest component.
    """
    prior, observations, linear = problem.prior, problem.observations, problem.linear
    size = linear.curvature.square().sum((-1, -2)).sqrt()
    size = torch.maximum(size, missed(prior, observations, linear.residuals.deviation, linear.slope).sqrt())
    if observations.mixture is not None:
        ratio = torch.where(
            observations.mixture.log_weights > -math.inf, observations.mixture.ratio, math.inf
        )
        narrow = observations.standard_deviation * ratio.amin(-1)
        spread = linear.information.diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()
        spread = spread * linear.residuals.deviation / narrow[:, None]
        size = torch.maximum(size, torch.where(observations.is_irregular[:, None], spread, 0.0))
    size = torch.where(observations.mask[:, None], torch.nan_to_num(size, nan=math.inf), 0.0)
    return torch.where(problem.prior.present, size.amax(2), 0.0).amax(1)


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
        pattern = (touched * (1 << torch.arange(size))).sum(1)
        # a prior that grew beyond the usual number of components takes more tokens
        return pattern + (self.grown * (1 << size)) + (self.observations.has_problem * (2 << size))

    @cached_property
    def grown(self) -> Tensor:
        """Which priors have more than the usual number of components, ``(B,)`` bool."""
        return self.posed.prior.present.sum(1) > self.usual

    def shapes(self, index: Tensor) -> Tensor:
        """A code for each entity ``(B,)``; entities of `index` with the same code have tensors of one shape."""
        codes = torch.zeros(self.posed.prior.batch, dtype=torch.int64)
        count = self.posed.prior.present[index].sum(1).clamp_min(self.usual)
        codes[index] = _shape_code(self.observations.rows_of(index)) * 64 + _power_of_two(count)
        return codes

    def local(self, index: Tensor, alone: bool = False) -> tuple[LocalProblem, Tensor]:
        """The entities at `index`, all of one shape, and the p-value of their observations.

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
            observations = _trimmed(observations)
            count = prior.present.sum(1).clamp_min(self.usual)
            prior = prior.padded(1 << int(_power_of_two(count).max()))
        local = LocalProblem.of(prior, observations, axes)
        return local, scaled.prediction.rows_of(index).p_value(scaled.prior.rows(index))


def _groups(index: Tensor, code: Tensor) -> Iterator[Tensor]:
    """Split `index` into parts of one code each."""
    for pattern in sorted(set(code[index].tolist())):
        yield index[code[index] == pattern]


def _shape_code(observations: Observations) -> Tensor:
    """A code per entity ``(B,)`` int64; `_trimmed` gives tensors of one shape for entities of the same code."""
    mask = observations.mask
    count = mask.sum(1)
    parts = [_power_of_two(count), ((observations.kind == ANGLE) & mask).any(1).long()]
    if observations.mixture is not None:
        parts.append((observations.noise_components * mask).amax(1))
    if observations.deviation_slope is not None:
        parts.append(((observations.deviation_slope != 0) & mask).any(1).long())
    taken = [part for part in (observations.functions, observations.likelihoods) if part is not None]
    parts.extend((part.present & mask).any(1).long() for part in taken)
    code = torch.zeros_like(count)
    for part in parts:
        code = code * 64 + part
    return code


def _trimmed(observations: Observations) -> Observations:
    """Remove the places, and the kinds of noise and function, that only other entities of a batch need.

    They change the shapes of tensors, and so how sums round.

    If all entities have one `_shape_code`, an entity's tensors do not depend on the rest of the batch.
    """
    mask = observations.mask
    row = torch.arange(observations.batch)[:, None]
    first = (~mask).long().argsort(dim=1, stable=True)  # used places first
    count = 1 << int(_power_of_two(mask.sum(1)).max())
    kept = observations.map(lambda tensor: tensor[row, first[:, :count]])
    short = count - kept.mask.shape[1]
    if short > 0:
        kept = kept.map(lambda tensor: torch.cat([tensor, tensor[:, -1:].repeat_interleave(short, 1)], 1))
        kept.mask[:, -short:] = False
    if kept.mixture is not None:
        parts = int((kept.noise_components * kept.mask).max())
        kept = replace(kept, mixture=kept.mixture.map(lambda part: part[..., :parts]) if parts else None)
    if kept.deviation_slope is not None and not bool(((kept.deviation_slope != 0) & kept.mask).any()):
        kept = replace(kept, deviation_slope=None)
    if kept.functions is not None and not bool((kept.functions.present & kept.mask).any()):
        kept = replace(kept, functions=None)
    if kept.likelihoods is not None and not bool((kept.likelihoods.present & kept.mask).any()):
        kept = replace(kept, likelihoods=None)
    return kept


def _power_of_two(count: Tensor) -> Tensor:
    """The smallest exponent of a power of two that is at least `count`."""
    return torch.where(count > 1, (count.clamp_min(1).double().log2() - 1e-9).ceil(), 0.0).long()
