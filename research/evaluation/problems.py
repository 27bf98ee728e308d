"""Held-out problems for evaluation, and their kinds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import RANGE, Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate
from beliefstream.inference.training.families import FAMILIES, Problems

# PyTorch uses only the low 32 bits of the seed of a CPU generator; training with seed 0 uses small numbers.
HELD_OUT_SEED = 4_000_000_007
LAST_SEED = 99
# problems per generator, so that a smaller number of problems gives the first ones of a larger number
_BLOCK = 64
_BLOCKS_A_SEED = 1_000_003


def held_out_problems(family: str, dimension: int, count: int, seed: int = 0) -> Problems:
    """Return the first `count` problems of an endless list that is not used in training, in float64.

    Raises ValueError for an unknown family, no problems, or a seed beyond 0 to 99.
    """
    if family not in FAMILIES:
        raise ValueError(f"family: expected {' or '.join(FAMILIES)}, got {family!r}")
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    if not 0 <= seed <= LAST_SEED:
        raise ValueError(f"seed: expected 0 to {LAST_SEED}, got {seed}")
    maker, parts = FAMILIES[family](), []
    for block in range(-(-count // _BLOCK)):
        number = HELD_OUT_SEED + 1 + seed * _BLOCKS_A_SEED + 10_007 * dimension + block
        parts.append(maker.sample(_BLOCK, dimension, torch.Generator().manual_seed(number)))
    joint = Problems(
        concatenate([part.prior for part in parts]),
        torch.cat([part.source for part in parts]),
        torch.cat([part.state for part in parts]),
        joined([part.observations for part in parts]),
    )
    return rows(in_double(joint), slice(0, count))


def in_double(problems: Problems) -> Problems:
    """Convert to float64, with weights that sum to one."""
    return Problems(
        problems.prior.to(dtype=torch.float64).normalised(),
        problems.source,
        problems.state.to(torch.float64),
        problems.observations.to(dtype=torch.float64),
    )


def rows(problems: Problems, index: Tensor | slice) -> Problems:
    """Return the problems at `index`."""
    prior, observations = problems.prior.rows(index), problems.observations.rows_of(index)
    return Problems(prior, problems.source[index], problems.state[index], observations)


def joined(parts: list[Observations]) -> Observations:
    """Join batches of observations of equal shape, without functions and non-Gaussian noise.

    Raises:
        ValueError: a batch has functions or non-Gaussian noise.
    """
    fields: dict[str, Any] = {}
    for name in Observations.__dataclass_fields__:
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], Tensor):
            fields[name] = torch.cat(values)
        elif any(value is not None for value in values):
            raise ValueError(f"{name}: expected observations without it")
    return Observations(**fields)


def kinds(prior: GaussianMixture, observations: Observations) -> dict[str, Tensor]:
    """Return which problems are of each kind by name, ``(B,)`` bool; a problem can be of several kinds."""
    used = observations.mask
    number = used.sum(1)
    outliers = ((observations.outlier_probability > 0) & used).any(1)
    components = prior.present.sum(1)
    found = {"with outliers": outliers, "without outliers": ~outliers}
    for count in range(1, int(number.max()) + 1):
        found[f"{count} observation{'s' if count > 1 else ''}"] = number == count
    found["one range only"] = (number == 1) & ((observations.kind == RANGE) & used).any(1)
    found["Gaussian prior"], found["mixture prior"] = components == 1, components > 1
    return found
