"""Scores of a series of beliefs: error, density and calibration at the targets, and lost entities.

The target of a case is the truth or, if that is unknown, the next report. All scores are over the scored coordinates:

- error: distance of the belief's mean from the target; its root mean square, median and 99 % quantile;
- NLL: mean negative log density at the target, nats;
- coverage: share of targets inside the highest-density region of 50, 90 and 99 %, over at most `LEVELS` evenly spread
  cases;
- energy score: ``E|X − x| − E|X − X'| / 2`` (T. Gneiting and A. Raftery, "Strictly proper scoring rules, prediction,
  and estimation", JASA 102, 2007, eq. 22), by scoringrules from `DRAWS` draws of each belief;
- NLL over ours: mean difference to our NLL on the same cases, and its standard error from the means of `BLOCKS`
  stretches of the recording, because errors of neighbouring cases are correlated;
- divergences: number of times that the entity was lost in at least `LOST_FOR` consecutive cases.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.streams.scores.filters.particle import KernelDensity

REGIONS = (0.5, 0.9, 0.99)
DRAWS = 128  # number of draws of each belief
LEVELS = 500  # number of cases whose region is computed
LOST_FOR = 20
BLOCKS = 20
_BATCH = 256

Array = NDArray[np.float64]


Estimate = GaussianMixture | KernelDensity
"""Beliefs over the scored coordinates."""


@dataclass(frozen=True)
class Row:
    """Scores of one method on one recording; lengths in the unit of the coordinates, NLL in nats."""

    recording: str
    method: str
    cases: int
    rmse: float
    median: float
    error99: float
    negative_log_likelihood: float
    coverage50: float
    coverage90: float
    coverage99: float
    energy_score: float
    updates_per_second: float
    divergences: int
    over_ours: float = 0.0
    over_ours_error: float = 0.0

    def to_dict(self) -> dict[str, str | int | float]:
        """Convert to a dictionary for JSON."""
        return asdict(self)


class ScoredCase(NamedTuple):
    """Scores of one belief."""

    error: float
    log_density: float
    energy: float
    level: float  # mass of the points with a higher density than the target; NaN if it was not computed


Cases = dict[tuple[str, float], ScoredCase]
"""Scored beliefs by entity and time."""


class Scores:
    """Collects the cases of one method on one recording.

    Args:
        cases: expected number of cases, to spread the cases whose region is computed evenly.

    Attributes:
        found: the cases by entity and time.
    """

    def __init__(self, cases: int) -> None:
        self._stride = max(1, math.ceil(cases / LEVELS))
        self._generator = torch.Generator().manual_seed(17)
        self.found: Cases = {}

    def add(self, entity: str, time: float, estimate: Estimate, target: Tensor) -> None:
        """Add one case with the `target` ``(1, d)``."""
        self.add_batch([entity], [time], estimate, target)

    def add_batch(
        self, entities: Sequence[str], times: Sequence[float], estimate: Estimate, targets: Tensor
    ) -> None:
        """Add the cases of a batch of ``B`` beliefs with the `targets` ``(B, d)``."""
        first = len(self.found)
        errors = (estimate.moments()[0] - targets).square().sum(-1).sqrt()
        draws = estimate.sample(DRAWS, self._generator)
        chosen = torch.arange(first, first + len(times)) % self._stride == 0
        levels = torch.full_like(errors, math.nan)
        if bool(chosen.any()):
            density = estimate.log_density(torch.cat([targets[:, None], draws], 1))
            levels = torch.where(chosen, (density[:, 1:] > density[:, :1]).double().mean(-1), levels)
        else:
            density = estimate.log_density(targets[:, None])
        columns = (errors, density[:, 0], torch.from_numpy(_energy(draws, targets)), levels)
        cases = map(ScoredCase, *(column.tolist() for column in columns))
        self.found.update(zip(zip(entities, times, strict=True), cases, strict=True))

    def over(self, ours: Scores) -> tuple[float, float]:
        """Return the mean difference to the NLL of `ours` on the same cases, and its standard error.

        Both are NaN if there are no cases.
        """
        keys = sorted(self.found, key=lambda key: (key[1], key[0]))
        if not keys:
            return math.nan, math.nan
        difference = np.array([ours.found[key].log_density - self.found[key].log_density for key in keys])
        blocks = [block.mean() for block in np.array_split(difference, BLOCKS) if len(block)]
        error = np.std(blocks, ddof=1) / math.sqrt(len(blocks)) if len(blocks) > 1 else math.nan
        return float(difference.mean()), float(error)


def row_of(
    found: Cases, recording: str, method: str, updates_per_second: float, lost_beyond: float = math.inf
) -> Row:
    """Return the scores over all cases, NaN if there are none; an entity is lost above the error `lost_beyond`."""
    columns = np.array(list(found.values())).reshape(-1, 4).T if found else np.full((4, 1), math.nan)
    errors, log_densities, energies, levels = columns
    levels = levels[~np.isnan(levels)]
    covered = [float((levels <= region).mean()) if len(levels) else math.nan for region in REGIONS]
    median, error99 = np.quantile(errors, (0.5, 0.99)).tolist()
    return Row(
        recording,
        method,
        len(found),
        math.sqrt(float(np.square(errors).mean())),
        median,
        error99,
        -float(log_densities.mean()),
        covered[0],
        covered[1],
        covered[2],
        float(energies.mean()),
        updates_per_second,
        _divergences(found, lost_beyond),
    )


def _divergences(found: Cases, lost_beyond: float) -> int:
    count, runs = 0, Counter[str]()
    for entity, time in sorted(found):
        # NaN counts as lost
        runs[entity] = 0 if found[entity, time].error <= lost_beyond else runs[entity] + 1
        count += runs[entity] == LOST_FOR
    return count


def _energy(draws: Tensor, targets: Tensor) -> Array:
    from scoringrules import es_ensemble  # imported here, because the import takes a second

    # draws are independent, so pairs of neighbours estimate the spread without bias and faster than all pairs
    scores: Array = es_ensemble(targets.numpy(), draws.numpy(), estimator="akr", backend="numpy")
    return scores


def batches(count: int) -> list[slice]:
    """Return slices of the beliefs that are scored at once."""
    return [slice(start, start + _BATCH) for start in range(0, count, _BATCH)]
