"""Mass of a posterior that an answer lacks: what a scan of the prior sees of it, and unseen coordinates."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update import importance
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.prior_scan import POINTS, SLACK, Scan, scan, zoom
from beliefstream.inference.update.result import Update, size_at
from beliefstream.inference.update.unseen_coordinates import unseen_divergence

ZOOMS, MORE_ZOOMS = 4, 20  # most zooms into a scan, and most where an answer seems to miss something
DOUBTFUL = 0.05  # nats missed, above which coarse cells are zoomed into
CLOSE_PLACES = 1024  # places of a scan that is zoomed into to compare an answer closely
DENSE_POINTS = 4096  # of such a scan where functions may repeat: a lattice has many small images
MOST_AXES = 2  # with more, so many points do not resolve a lattice either
LOW = 1.0  # nats by which an answer is too low in a cell that it lacks
SEED = 502  # of the draws of unseen coordinates


def lacking(local: LocalProblem, update: Update) -> tuple[GaussianMixture, Tensor]:
    """What an answer lacks, as a mixture with a component for each cell of the scan, and its mass ``(B,)``.

    Only cells count in which the answer is too low by `LOW`.
    """
    seen = local.scan
    assert seen is not None
    answered = seen.smoothed(local.localise(update.posterior))
    log_evidence = torch.maximum(update.log_evidence.to(seen.points), seen.log_evidence)[:, None]
    off = seen.log_target - log_evidence - answered
    share = seen.share * (seen.log_evidence[:, None] - log_evidence).exp() * -torch.expm1(-off)
    logs = torch.where((off > LOW) & share.isfinite(), share.log(), -math.inf)
    cells = GaussianMixture(logs, seen.points, la.symmetrise(seen.factors @ seen.factors.mT))
    return cells.to(device=torch.device("cpu")), torch.logsumexp(logs, 1).exp().cpu()


def compared(local: LocalProblem, update: Update) -> Update:
    """Lower the quality by what the scan saw and the answer lacks."""
    assert local.scan is not None
    missed = local.scan.missed(local.localise(update.posterior), update.log_evidence)
    return with_missed(update, missed.sum(1))


def missed_closely(local: LocalProblem, update: Update) -> Tensor:
    """Nats that answers miss, ``(B,)``, after zooming in where cells are too coarse to tell.

    It zooms from the beginning with more places, because each zoom draws some of the parts. What is missed may be a
    thin ring beside sharp peaks: its own cells must be small, not only those of the peaks.
    """
    assert local.scan is not None
    total = local.scan.missed(local.localise(update.posterior), update.log_evidence).sum(1)
    repeats = local.observations64.has_functions & (local.prior.dimension <= MOST_AXES)
    for chosen, points in (((total > DOUBTFUL) & ~repeats, POINTS), (repeats, DENSE_POINTS)):
        index = torch.nonzero(chosen)[:, 0]
        if len(index):
            total[index] = _missed_by(local.rows(index), update.rows(index), points)
    return total


def _missed_by(local: LocalProblem, update: Update, points: int) -> Tensor:
    """Nats that answers miss, ``(B,)``, by a new scan that is zoomed into."""
    answer, evidence = local.localise(update.posterior), update.log_evidence
    found = scan(local.prior64, local.observations64, CLOSE_PLACES, points)
    missed = found.missed(answer, evidence)
    for _ in range(MORE_ZOOMS):
        # cells that are too coarse say nothing, whether they see that something is missed or not
        coarse = (missed.sum(1) > DOUBTFUL) & ~found.resolves(missed)
        index = torch.nonzero(coarse | ~found.resolves(found.share))[:, 0]
        if len(index) == 0:
            break
        found = _finer(local, found, index)
        missed[index] = found.rows(index).missed(answer.rows(index), evidence[index])
    return missed.sum(1)


def beyond_slack(weighted: importance.Weighted) -> Tensor:
    """Part of the divergence, nats ``(B,)``, from points where the answer is lower than `SLACK` allows."""
    log_weight = weighted.target - weighted.proposal
    log_evidence = torch.logsumexp(log_weight, 1, keepdim=True) - math.log(log_weight.shape[1])
    off = weighted.target - weighted.answer - log_evidence
    return torch.where(off > SLACK, torch.softmax(log_weight, 1) * off, 0.0).sum(1).double().cpu()


def unseen(local: LocalProblem, update: Update, weighted: importance.Weighted) -> Tensor:
    """Divergence, nats ``(B,)``, of the coordinates that no sensor touches, given the others."""
    points = weighted.points.to(local.scale) * local.scale[:, None, None] + local.shift[:, None]
    share = torch.softmax(weighted.target - weighted.proposal, 1).to(local.scale)
    return unseen_divergence(update.posterior, local.whole, local.axes, points, share, SEED)


def zoomed(local: LocalProblem) -> Scan:
    """Zoom into the scan of a problem until its cells are small beside the noise."""
    assert local.scan is not None
    found = local.scan
    for _ in range(ZOOMS):
        index = torch.nonzero(~found.resolves(found.share))[:, 0]
        if len(index) == 0:
            break
        found = _finer(local, found, index)
    return found


def _finer(local: LocalProblem, found: Scan, index: Tensor) -> Scan:
    """Zoom into the scans of the problems at `index`."""
    some = local.rows(index)
    return found.with_rows(index, zoom(found.rows(index), some.prior64, some.observations64))


def with_missed(update: Update, missed: Tensor) -> Update:
    """Lower the quality by what was missed, in nats ``(B,)``."""
    size = torch.minimum(update.effective_sample_size, size_at(missed))
    return replace(update, effective_sample_size=size, divergence=torch.maximum(update.divergence, missed))
