"""Refinement of one-parameter posteriors: a mixture is fitted to the posterior at quadrature points.

It maximises the cross entropy E_p[log q] over weights, means and deviations. With J the derivatives of log q at a
point, the gradient is E_p[J]. E_p[J Jᵀ] is the Hessian's negative where q = p, so damped steps (Levenberg 1944,
Marquardt 1963) converge fast where the answer is already good. EM needs hundreds of rounds there.

An answer is replaced only where a second set of points, between those of the fit, says that it is better.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from research.paper.form.whitening import Frame, posterior_points, spread_points, whiten
from research.paper.scalar import Problems, ScalarMixture, ScalarTask

FIT = spread_points(121)
CHECK = spread_points(121, 0.5)
ROUNDS = 12
DAMPING = 1e-3  # first, relative to the curvature
LONGEST = 1.0  # step of a mean in deviations, and of a log deviation or logit


class Refined(NamedTuple):
    """Posteriors and the estimate of KL(exact ‖ posterior) ``(B,)`` at points that no fit used, in nats."""

    posterior: ScalarMixture
    divergence: Tensor


def divergence(task: ScalarTask, problems: Problems, frame: Frame, posterior: ScalarMixture) -> Tensor:
    """Estimate KL(exact ‖ posterior) ``(B,)`` in nats by quadrature over the frame of each problem."""
    points, logs = posterior_points(task, problems, frame, CHECK)
    spacing = CHECK.log_spacing + frame.scale.log()[:, None]
    return (logs.exp() * (logs - spacing - posterior.log_density(points))).sum(1)


def refine(task: ScalarTask, problems: Problems, first: ScalarMixture, rounds: int = ROUNDS) -> Refined:
    """Fit the mixtures to their posteriors, starting from `first`."""
    frame = whiten(task, problems)
    points, logs = posterior_points(task, problems, frame, FIT)
    fitted = fit(points, logs.exp(), first, rounds)
    before, after = (divergence(task, problems, frame, mixture) for mixture in (first, fitted))
    better = (after < before)[:, None]
    chosen = ScalarMixture(*(torch.where(better, new, old) for new, old in zip(fitted, first, strict=True)))
    return Refined(chosen, torch.minimum(before, after))


def fit(points: Tensor, weights: Tensor, first: ScalarMixture, rounds: int) -> ScalarMixture:
    """Maximise the weighted mean of the log density at points ``(B, P)``; no step makes it worse."""
    current = first
    score = (weights * current.log_density(points)).sum(1)
    damping = torch.full_like(score, DAMPING)
    for _ in range(rounds):
        step = _step(points, weights, current, damping).clamp(-LONGEST, LONGEST)
        logits, means, scales = step.chunk(3, 1)
        tried = ScalarMixture(
            torch.log_softmax(current.log_weights + logits, 1),
            current.means + current.log_scales.exp() * means,
            current.log_scales + scales,
        )
        reached = (weights * tried.log_density(points)).sum(1)
        better = reached > score
        current = ScalarMixture(
            *(torch.where(better[:, None], new, old) for new, old in zip(tried, current, strict=True))
        )
        score = torch.where(better, reached, score)
        damping = torch.where(better, damping / 5, damping * 8).clamp(1e-9, 1e6)
    return current


def _step(points: Tensor, weights: Tensor, mixture: ScalarMixture, damping: Tensor) -> Tensor:
    """Return the step ``(B, 3K)`` of logits, of means in deviations, and of log deviations."""
    share = torch.softmax(mixture.log_components(points), -1)  # (B, P, K)
    scaled = (points[..., None] - mixture.means[:, None]) * (-mixture.log_scales[:, None]).exp()
    slopes = torch.cat(
        [share - mixture.log_weights.exp()[:, None], share * scaled, share * (scaled.square() - 1)], 2
    )
    weighted = weights[..., None] * slopes
    gradient = weighted.sum(1)
    curvature = slopes.mT @ weighted
    ridge = damping[:, None] * (curvature.diagonal(dim1=1, dim2=2) + 1e-4 / mixture.means.shape[1])
    step: Tensor = torch.linalg.solve(curvature + torch.diag_embed(ridge), gradient[..., None])
    return step[..., 0]
