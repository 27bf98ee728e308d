"""A compiled network and its check, loaded from packages: about twice the speed on a CPU.

`inference.update.compilation` makes the packages. They load in milliseconds and take any number of entities,
observations and components, so nothing compiles while a stream runs. The uncompiled network answers problems with a
noise mixture, a measurement function, a likelihood of a problem, or a dimension without packages.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture, pad
from beliefstream.inference.network.transformer import DistributionTransformer, Estimate, Tokens
from beliefstream.inference.update import importance
from beliefstream.inference.update.compiled_packages import (
    CHECK,
    MOST_DIMENSIONS,
    MOST_PLACES,
    NAMES,
    NETWORK,
    TOKENS,
    Call,
    images_name,
    load_package,
    mixture_inputs,
    observation_inputs,
    package_digest,
)


class Compiled:
    """The compiled packages of some weights; each is loaded at its first use.

    Args:
        network: the network with these weights; points: of the check.
        directory: where `compile_network` put the packages.
    """

    def __init__(self, network: DistributionTransformer, points: int, directory: Path) -> None:
        self._network, self._points, self._directory = network, points, directory
        self._loaded: dict[tuple[int, str], Call | None] = {}

    def available(self, dimension: int) -> bool:
        """Whether there are packages for states of that many coordinates; raises as `load_all` does."""
        return self._package(dimension, NETWORK) is not None

    def load_all(self) -> list[int]:
        """Load all packages, to find a bad one before a stream runs; returns their dimensions.

        Raises a ValueError that names a file that is incomplete or cannot be loaded.
        """
        if not self._directory.exists():
            return []
        dimensions = range(1, MOST_DIMENSIONS + 1)
        found = {d: [self._package(d, name) for name in NAMES] for d in dimensions}
        return [dimension for dimension in dimensions if all(found[dimension])]

    def _package(self, dimension: int, name: str) -> Call | None:
        if (dimension, name) not in self._loaded:
            place = self._directory / f"{self._digest}-{dimension}"
            self._loaded[dimension, name] = load_package(place / name) if place.exists() else None
        return self._loaded[dimension, name]

    @cached_property
    def _digest(self) -> str:
        return package_digest(self._network, self._points)

    def _fitting(self, observations: Observations, name: str) -> Call | None:
        plain = observations.has_plain_noise and observations.functions is None
        plain = plain and observations.likelihoods is None
        if not plain or observations.value.shape[-1] > observations.dimension:
            return None
        if observations.value.dtype != torch.float32 or observations.value.device.type != "cpu":
            return None
        return self._package(observations.dimension, name)

    def answer(self, tokens: Tokens, observations: Observations) -> Estimate | None:
        """The network's answer; None where no package fits."""
        found = self._of_tokens(tokens, observations, NETWORK)
        return None if found is None else Estimate(*found)

    def images(
        self, tokens: Tokens, observations: Observations, each: int, rounds: int
    ) -> GaussianMixture | None:
        """Images of the prior, as from `importance.prior_images`; None where no package fits."""
        found = self._of_tokens(tokens, observations, images_name(each, rounds))
        return None if found is None else GaussianMixture(*found)

    def _of_tokens(self, tokens: Tokens, observations: Observations, name: str) -> list[Tensor] | None:
        package = self._fitting(observations, name)
        if package is None or tokens.source.shape[1] != TOKENS:
            return None
        results = package(_two(tuple(tokens)), _two(observation_inputs(observations)))
        return [result[: observations.batch] for result in results]

    def check(
        self,
        prior: GaussianMixture,
        answer: GaussianMixture,
        images: GaussianMixture,
        observations: Observations,
    ) -> importance.Quality | None:
        """Quality of an answer; None where no package fits."""
        package = self._fitting(observations, CHECK)
        most = max(prior.components, answer.components, images.components)
        if package is None or most > MOST_PLACES:
            return None
        mixtures = [_two(mixture_inputs(pad(mixture, 2))) for mixture in (prior, answer, images)]
        seen = _two(observation_inputs(observations))
        return importance.Quality(*(part[: observations.batch] for part in package(*mixtures, seen)))


def _two(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Pad to at least two entities by repeating a single one."""
    return parts if parts[0].shape[0] > 1 else tuple(torch.cat([part, part]) for part in parts)
