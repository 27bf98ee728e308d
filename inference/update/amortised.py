"""Amortised inference: the network answers what no other method does, and everything that they leave.

Its answers are checked in one pass, or, where the settings ask for it, refined until they are good (`network`). Where
functions take other coordinates than all other observations, an answer in two steps takes the place of its first
(`in_two_steps`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import ANGLE, Observations
from beliefstream.inference.update.check.local_problem import LocalProblem
from beliefstream.inference.update.closed.nearly_linear import missed
from beliefstream.inference.update.closed.scaled_problem import Scaled
from beliefstream.inference.update.devices import DeviceNetwork
from beliefstream.inference.update.in_two_steps import TwoSteps, has_hypotheses, seen_first
from beliefstream.inference.update.network import CheckedNetwork, ThoroughNetwork, Wanted
from beliefstream.inference.update.problems import Problems, groups
from beliefstream.inference.update.result import Answer, joined
from beliefstream.inference.update.settings import PLANE, UNLIKELY, UpdateSettings

# Below this, a sensor is only slightly nonlinear; set on hard problems, as `UNLIKELY`.
GENTLE = 3.0
# possible outliers; of fewer, `randomised_images` leaves out enough. Without, 7 of 16 problems with two places in space
# are dishonest (seed 69003)
FEWEST_SETS = 4


class Amortised:
    """The method of the network on its device."""

    def __init__(self, network: DeviceNetwork, settings: UpdateSettings) -> None:
        self._network, self._settings = network, settings

    def can(self, problems: Problems) -> Tensor:
        """All entities, ``(B,)`` bool."""
        return torch.ones(problems.prior.batch, dtype=torch.bool)

    def answer(self, problems: Problems, index: Tensor) -> Answer:
        """Checked answers to the entities at `index`, each as good as the settings ask."""
        answers = self._thoroughly if self._settings.refine_below else self._in_one_pass
        return joined(list(answers(_Batch(problems, self._settings.components), index)))

    def _in_one_pass(self, batch: _Batch, index: Tensor) -> Iterator[tuple[Tensor, Answer]]:
        """The network's checked answers; problems of the user are computed in double precision, for any function."""
        for some in groups(index, batch.codes):
            has_problem = bool(batch.problems.observations.has_problem[some[0]])
            network = self._network.double if has_problem else self._network
            yield some, CheckedNetwork(network, self._settings).update(batch.local(some))

    def _thoroughly(self, batch: _Batch, index: Tensor) -> Iterator[tuple[Tensor, Answer]]:
        """Refined answers; the problems of one call have tensors of one shape."""
        settings, problems, count = self._settings, batch.problems, len(batch.codes)
        posed, no = problems.scaled.rows(index), torch.zeros(count, dtype=torch.bool)
        wanted = Wanted(torch.zeros(count, dtype=torch.float64), no, no.clone())
        wanted.least[index] = settings.least_efficiency(posed.gained)
        wanted.doubted[index], wanted.search[index] = _doubted(posed, problems.p_value[index])
        first = seen_first(problems.observations)[1]
        # after a first step without hypotheses, no part is left that a check could miss
        stepwise = first.any(1)
        wanted.least[stepwise] = settings.repeat_below
        wanted.doubted[stepwise] &= has_hypotheses(problems.observations, first)[stepwise]
        shape = torch.stack([batch.codes, batch.shapes(index), stepwise & wanted.doubted], 1)
        alike = torch.cat([shape, first], 1).long()
        for part in groups(index, torch.unique(alike, dim=0, return_inverse=True)[1]):
            local = batch.local(part, True)
            if bool(stepwise[part[0]]):
                local = _started(local, problems, bool(wanted.doubted[part[0]]))
            yield part, self._thorough.thorough(local, wanted.rows(part))

    @cached_property
    def _thorough(self) -> ThoroughNetwork:
        return ThoroughNetwork(self._network.double, self._settings)


def _started(local: LocalProblem, problems: Problems, doubted: bool) -> LocalProblem:
    """Problems with an answer in two steps to start from; where `doubted`, points of a check come from it too."""
    axes, first = seen_first(local.observations)
    before, rest = (
        _trimmed(replace(local.observations, mask=mask)) for mask in (first, local.observations.mask & ~first)
    )
    known = problems.solve(local.prior, before).posterior
    steps = TwoSteps(known, torch.nonzero(axes[0])[:, 0].tolist(), local.prior, rest)
    return replace(
        local, start=steps.answer(problems.settings), conditional=steps.proposal if doubted else None
    )


def _doubted(problem: Scaled, p_value: Tensor) -> tuple[Tensor, Tensor]:
    """Whose answers may lack a part of the posterior, and where modes are searched for in any case, ``(B,)``."""
    bent, unlikely = bend(problem), p_value < UNLIKELY
    possible = (problem.observations.mask & (problem.observations.outlier_probability > 0)).sum(1)
    # a ring or beam may lie between all points
    thin = (bent > GENTLE) & (problem.prior.dimension <= PLANE)
    # a problem has no residual whose bend could be measured
    doubted = (bent > GENTLE) | (unlikely & (possible > 0)) | problem.observations.has_problem
    return doubted, thin | (unlikely & (possible >= FEWEST_SETS))


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
class _Batch:
    """A batch of problems, with what decides on the shapes of their tensors."""

    problems: Problems
    usual: int  # components of a prior that has not grown

    @cached_property
    def codes(self) -> Tensor:
        """A code for each entity ``(B,)``: its touched coordinates, if its prior has grown, if it has a problem."""
        size = self.problems.prior.dimension
        # a prior that grew beyond the usual number of components takes more tokens
        return (
            self.problems.pattern
            + (self.grown * (1 << size))
            + (self.problems.observations.has_problem * (2 << size))
        )

    @cached_property
    def grown(self) -> Tensor:
        """Which priors have more than the usual number of components, ``(B,)`` bool."""
        return self.problems.prior.present.sum(1) > self.usual

    def shapes(self, index: Tensor) -> Tensor:
        """A code for each entity ``(B,)``; entities of `index` with the same code have tensors of one shape."""
        codes = torch.zeros(self.problems.prior.batch, dtype=torch.int64)
        count = self.problems.prior.present[index].sum(1).clamp_min(self.usual)
        codes[index] = _shape_code(self.problems.observations.rows_of(index)) * 64 + _power_of_two(count)
        return codes

    def local(self, index: Tensor, alone: bool = False) -> LocalProblem:
        """The entities at `index`, all of one shape; `alone` removes the padding that only other entities need."""
        prior, observations = self.problems.prior.rows(index), self.problems.observations.rows_of(index)
        if not bool(self.grown[index[0]]):
            prior = prior.places(torch.arange(min(prior.components, self.usual)).expand(prior.batch, -1))
        if observations.likelihoods is not None and not bool(observations.has_problem.any()):
            observations = replace(observations, likelihoods=None)
        if alone:
            observations = _trimmed(observations)
            count = prior.present.sum(1).clamp_min(self.usual)
            prior = prior.padded(1 << int(_power_of_two(count).max()))
        return LocalProblem.of(prior, observations, self.problems.axes_of(index[0]))


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
