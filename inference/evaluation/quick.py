"""A quick score of an updater: one number per problem, in seconds, to tell whether a change improved it."""

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
    """KL(exact ‖ posterior of `updater`) in nats of each held-out problem, ``(count,)`` float64.

    The file `cache` keeps the exact posteriors. A call on the same problems, or the first of them, then takes only as
    long as the updates. Raises ValueError for an unknown family or seed.
    """
    problems, reference = references(family, dimension, count, seed, Path(cache) if cache else None)
    parts = []
    for index in torch.split(torch.arange(count), _BATCH):
        posterior = updater.update(problems.prior.rows(index), problems.observations.rows_of(index)).posterior
        parts.append(reference.rows(index).divergence(posterior))
    return torch.cat(parts)
