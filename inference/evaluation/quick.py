"""Quick score of an updater, one number per problem, to find out whether a change improved it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from beliefstream.inference.evaluation.reference import references
from beliefstream.inference.update.updater import Updater

_BATCH = 256


def evaluate_updater(
    updater: Updater,
    dimension: int,
    count: int = 512,
    seed: int = 0,
    family: str = "mixed",
    cache: Path | str | None = None,
) -> Tensor:
    """Return KL(exact ‖ posterior of `updater`) of each held-out problem in nats, ``(count,)`` float64.

    Args:
        updater: the updater to evaluate.
        dimension: number of coordinates.
        count: number of problems, at least 1.
        seed: seed of the problems, 0 to 99.
        family: name of the family.
        cache: file for the exact posteriors, so that further calls on the same problems only compute the updates.

    Raises:
        ValueError: the family, the count or the seed is invalid.
    """
    problems, reference = references(family, dimension, count, seed, Path(cache) if cache else None)
    parts = []
    for index in torch.split(torch.arange(count), _BATCH):
        posterior = updater.update(problems.prior.rows(index), problems.observations.rows_of(index)).posterior
        parts.append(reference.rows(index).divergence(posterior))
    return torch.cat(parts)
