"""Finds outcomes from which the filter can continue, and whose posteriors consumers can parse."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from beliefstream.inference.tracking.filtering import Outcome


def are_sound(outcomes: Sequence[Outcome | None]) -> list[bool]:
    """Whether each outcome is finite, with positive definite covariances; None is not sound.

    Almost always all are, so that one test of all together is enough. Native steps have looked already.
    """
    found = [outcome for outcome in outcomes if outcome is not None and not outcome.is_sound]
    if all(map(_are_all_sound, _by_dimension(found))):
        return [outcome is not None for outcome in outcomes]
    return [outcome is not None and (outcome.is_sound or _are_all_sound([outcome])) for outcome in outcomes]


def _by_dimension(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    groups: dict[int, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.belief.means.shape[1]].append(outcome)
    return list(groups.values())


def _are_all_sound(outcomes: Sequence[Outcome]) -> bool:
    """Whether all outcomes are sound; they have the same dimension."""
    beliefs = [outcome.belief for outcome in outcomes]
    if not all(len(belief.weights) for belief in beliefs):
        return False
    quality = sum(
        [
            each.effective_sample_size + each.log_evidence + each.surprise + each.accumulated_error
            for each in outcomes
        ]
    )
    weights = np.concatenate([belief.weights for belief in beliefs])
    means = np.concatenate([belief.means for belief in beliefs])
    covariances = np.concatenate([belief.covariances for belief in beliefs])
    with np.errstate(invalid="ignore", over="ignore"):
        total = quality + weights.sum() + means.sum() + covariances.sum()
    if not math.isfinite(total):  # it is not finite if any term is not
        return False
    try:
        np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError:
        return False
    return True
