"""Problems for the tests of inference: small, seeded, in the plane or along a line."""

from __future__ import annotations

import functools

import torch

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import weights
from beliefstream.inference.training.families import Mixed, mixed, planar
from beliefstream.inference.update.updater import Updater, UpdateSettings

HELD_OUT = 3_000_000_000  # far from every seed of training; torch's CPU generator takes 32 bits of it


@functools.cache
def updater(refine_below: float = UpdateSettings.refine_below) -> Updater:
    """The shipped network."""
    return Updater(weights.load(), settings=UpdateSettings(refine_below=refine_below))


def sampled(
    count: int, dimension: int = 2, seed: int = 0, family: Mixed | None = None
) -> tuple[GaussianMixture, Observations, torch.Tensor]:
    """Priors, observations and true states of a family (planar in the plane, mixed elsewhere), float64."""
    family = family or (planar() if dimension == 2 else mixed())
    problems = family.sample(count, dimension, torch.Generator().manual_seed(HELD_OUT + seed))
    double = torch.float64
    return (
        problems.prior.to(dtype=double).normalised(),
        problems.observations.to(dtype=double),
        problems.state.to(double),
    )
