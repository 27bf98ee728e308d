"""The update of nearly linear observations: one linearised update per component and outlier hypothesis.

It is taken where its loss is below a bound (`nearly_linear.divergence`). The bound vanishes with the information of the
observations, so the errors of many weak updates do not add up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.update.closed import nearly_linear
from beliefstream.inference.update.closed.polynomials import are_near, with_polynomials
from beliefstream.inference.update.closed.scaled_problem import Posed, Scaled
from beliefstream.inference.update.closed.updates import SEVERAL
from beliefstream.inference.update.problems import Problems
from beliefstream.inference.update.result import Answer, Method, joined
from beliefstream.inference.update.settings import MOST_TOUCHED, PLANE, UNLIKELY, UpdateSettings

LESS_LINEAR = 0.05  # factor on the allowed loss of a linearised function of the user


def can(problems: Problems) -> Tensor:
    """Entities whose observations are nearly linear over every component, ``(B,)`` bool."""
    return is_near(problems.posed, problems.observations, problems.settings)


def can_plainly(problems: Problems) -> Tensor:
    """As `can`, without those in the plane whose light hypotheses count: there quadrature is exact."""
    near = can(problems)
    if not bool(near.any()):
        return near
    return near & ~((problems.touched_count == PLANE) & disagree(problems.scaled))


def is_near(posed: Posed, observations: Observations, settings: UpdateSettings) -> Tensor:
    """Whether a linearised update loses little enough, ``(B,)`` bool."""
    return posed.divergence < settings.linear_below * linear_share(posed, observations, settings)


def linear_share(posed: Posed, observations: Observations, settings: UpdateSettings) -> Tensor | float:
    """Factor ``(B,)`` on the loss that a linearised update may have: less where quadrature can replace it.

    The error of a linearised function has a sign, and adds up over many observations.
    """
    if observations.functions is None or settings.quadrature_below <= 0:
        return 1.0
    hidden = 0 if observations.hidden is None else int(observations.hidden.max())
    touched = posed.touched[:, : posed.touched.shape[1] - hidden]
    replaced = observations.has_functions & (touched.sum(1) < MOST_TOUCHED)
    return torch.where(replaced, LESS_LINEAR, 1.0).double()


def answer(problems: Problems, index: Tensor) -> Answer:
    """Posteriors of the entities at `index`; they are exact if all sensors are linear."""
    problem = problems.scaled.rows(index)
    updated = _by_polynomials if problem.observations.has_own_functions else _by_hypotheses
    return updated(problem, problems.posed.divergence[index], problems.settings)


def _by_polynomials(problem: Scaled, divergence: Tensor, settings: UpdateSettings) -> Answer:
    """Update with functions of the user as polynomials where they are near, and as they are elsewhere."""
    prior, observations = problem.prior, problem.observations
    expanded = problem._replace(observations=with_polynomials(observations, prior.moments()[0]))
    near = are_near(
        expanded.observations, observations, nearly_linear.around(prior, observations), prior.present
    )
    parts = []
    if len(at := torch.nonzero(near)[:, 0]):
        some = expanded.rows(at)
        update = _by_hypotheses(some, divergence[at], settings)
        there = ((update.posterior.means - some.shift[:, None]) / some.scale[:, None, None])[:, :, None]
        kept = are_near(some.observations, observations.rows_of(at), there, update.posterior.present)
        parts.append((at[kept], update.rows(torch.nonzero(kept)[:, 0])))
        near[at] = kept
    if len(at := torch.nonzero(~near)[:, 0]):
        parts.append((at, _by_hypotheses(problem.rows(at), divergence[at], settings)))
    return joined(parts)


def _by_hypotheses(problem: Scaled, divergence: Tensor, settings: UpdateSettings) -> Answer:
    differing, parts = disagree(problem), []
    agreeing = torch.nonzero(~differing)[:, 0]
    # one by one where they disagree: how light a hypothesis may be depends on all observations of an update
    for at in [*([agreeing] if len(agreeing) else []), *torch.nonzero(differing)]:
        some, differ = problem.rows(at), bool(differing[at[0]])
        posterior, evidence, loss = nearly_linear.update(
            some.prior, some.observations, settings.most_components, settings.merge_below, some.linear, differ
        )
        method = torch.where(divergence[at] > 0, int(Method.LINEARISED), int(Method.KALMAN))
        parts.append((at, Answer.of(some.back(posterior), evidence, divergence[at] + loss, method)))
    return joined(parts)


def disagree(problem: Scaled) -> Tensor:
    """Whether there are several possible outliers, and the observations are unlikely if none is one, ``(B,)`` bool."""
    observations = problem.observations
    several = (observations.mask & (observations.outlier_probability > 0)).sum(1) >= SEVERAL
    if bool(several.any()):
        several &= problem.prediction.p_value(problem.prior) < UNLIKELY
    return several
