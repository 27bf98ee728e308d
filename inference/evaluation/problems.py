"""Held-out problems for evaluation, and their kinds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from beliefstream.inference.evaluation.families import FAMILIES, Problems
from beliefstream.inference.likelihood.observations import RANGE, Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture, concatenate

# PyTorch uses only the low 32 bits of a CPU generator's seed; training steps of seed 0 use small numbers.
HELD_OUT_SEED = 4_000_000_007
_BLOCK = 64  # problems per generator, so that fewer problems are the first of more
_BLOCKS_A_SEED = 1_000_003


def held_out_problems(family: str, dimension: int, count: int, seed: int = 0) -> Problems:
    """The first `count` problems of an endless list that no training step saw, in float64.

    Args:
        family: by name, of `FAMILIES`.
        dimension: of the state.
        count: at least 1.
        seed: 0 to 99, each gives another list.

    Raises:
        ValueError: for another family, number or seed.
    """
    if family not in FAMILIES:
        raise ValueError(f"family: expected {' or '.join(FAMILIES)}, got {family!r}")
    if count < 1:
        raise ValueError(f"count: expected at least 1, got {count}")
    if not 0 <= seed < 100:
        raise ValueError(f"seed: expected 0 to 99, got {seed}")
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
    """The problems at `index`."""
    prior, observations = problems.prior.rows(index), problems.observations.rows_of(index)
    return Problems(prior, problems.source[index], problems.state[index], observations)


def joined(parts: list[Observations]) -> Observations:
    """Join batches of equal places and rows, of the families' kinds, with Gaussian noise and outliers."""
    fields: dict[str, Any] = {}
    for name in Observations.__dataclass_fields__:
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], Tensor):
            fields[name] = torch.cat(values)
        elif any(value is not None for value in values):
            raise ValueError(f"{name}: only observations without it can be joined")
    return Observations(**fields)


def kinds(prior: GaussianMixture, observations: Observations) -> dict[str, Tensor]:
    """Which problems are of each kind, by name, each ``(B,)`` bool; a problem can be of several kinds."""
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
