"""Ahead-of-time compilation of the network and its check, with `torch.export` and AOTInductor.

`compile_network` makes the packages for one dimension. It takes about a minute and needs a C++ compiler.
`inference.update.compiled_network` uses them.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from beliefstream.inference.likelihood.observations import ANGLE, LINEAR, RANGE, Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture, pad
from beliefstream.inference.network.transformer import DistributionTransformer, Tokens, duplicate_components
from beliefstream.inference.update import importance
from beliefstream.inference.update.compiled_packages import (
    CHECK,
    MOST_ENTITIES,
    MOST_OBSERVATIONS,
    MOST_PLACES,
    NETWORK,
    TOKENS,
    WALKS,
    images_name,
    mixture_inputs,
    observation_inputs,
    package_path,
)

ENTITIES, OBSERVATIONS = 8, 6  # of the example that is traced; packages take other numbers too


class NetworkProgram(nn.Module):
    """The network as a program: takes tokens and observations, returns its answer."""

    def __init__(self, network: DistributionTransformer) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: tuple[Tensor, ...], observations: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(self.network(Tokens(*tokens), _observations(observations)))


class ImagesProgram(nn.Module):
    """`importance.prior_images` as a program: takes tokens and observations, returns images of the prior."""

    def __init__(self, each: int, rounds: int) -> None:
        super().__init__()
        self.each, self.rounds = each, rounds

    def forward(
        self, tokens: tuple[Tensor, ...], observations: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        return mixture_inputs(
            importance.prior_images(Tokens(*tokens), _observations(observations), self.each, self.rounds)
        )


class CheckProgram(nn.Module):
    """The check as a program: takes a prior, an answer, images and observations, returns the answer's quality."""

    def __init__(self, points: int) -> None:
        super().__init__()
        self.points = points

    def forward(
        self,
        prior: tuple[Tensor, ...],
        answer: tuple[Tensor, ...],
        images: tuple[Tensor, ...],
        observations: tuple[Tensor, ...],
    ) -> tuple[Tensor, ...]:
        weighted = importance.weigh(
            GaussianMixture(*prior),
            GaussianMixture(*answer),
            _observations(observations),
            GaussianMixture(*images),
            self.points,
            importance.CHECK_SEED,
        )
        return tuple(importance.quality(weighted))


def _observations(parts: tuple[Tensor, ...]) -> Observations:
    return Observations(*parts)  # type: ignore[arg-type]


def compile_network(network: DistributionTransformer, dimension: int, points: int, directory: Path) -> Path:
    """Compile for a state of `dimension` coordinates and a check of `points`; returns the packages' directory.

    Keeps existing packages. Raises RuntimeError if there is no C++ compiler.
    """
    place = package_path(network, dimension, points, directory)
    if place.exists():
        return place
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as temporary, torch.no_grad():
        new = Path(temporary) / "new"
        new.mkdir()
        _compile(network, dimension, points, new)
        try:
            new.rename(place)
        except OSError:  # another process was faster
            if not place.exists():
                raise
    return place


def _compile(network: DistributionTransformer, dimension: int, points: int, directory: Path) -> None:
    example_prior, example = _example(dimension)
    tokens = tuple(duplicate_components(example_prior, TOKENS))
    seen = observation_inputs(example)
    batch = torch.export.Dim("batch", min=2, max=MOST_ENTITIES)
    number = torch.export.Dim("number", min=2, max=MOST_OBSERVATIONS)
    observed, given = tuple({0: batch, 1: number} for _ in seen), tuple({0: batch} for _ in tokens)
    taken = (given, observed)
    _package(
        torch.export.export(NetworkProgram(network.float().eval()), (tokens, seen), dynamic_shapes=taken),
        directory / NETWORK,
    )
    check = CheckProgram(points)
    prior, other, images = (mixture_inputs(pad(example_prior, TOKENS + more)) for more in (1, 2, 3))
    check(prior, other, images, seen)  # draws the points, which are constants of the program
    counts = (torch.export.Dim(name, min=2, max=MOST_PLACES) for name in ("before", "after", "walked"))
    mixtures = (tuple({0: batch, 1: count} for _ in range(3)) for count in counts)
    shapes = (*mixtures, observed)
    _package(
        torch.export.export(check, (prior, other, images, seen), dynamic_shapes=shapes), directory / CHECK
    )
    for walk in WALKS:
        _package(
            torch.export.export(ImagesProgram(*walk), (tokens, seen), dynamic_shapes=taken),
            directory / images_name(*walk),
        )


def _example(dimension: int) -> tuple[GaussianMixture, Observations]:
    """A batch to trace the programs with: mixtures about zero, and observations of every kind."""
    generator = torch.Generator().manual_seed(0)
    shape = (ENTITIES, OBSERVATIONS)
    means = torch.randn(ENTITIES, TOKENS, dimension, generator=generator)
    covariances = 0.1 * torch.eye(dimension).expand(ENTITIES, TOKENS, dimension, dimension)
    log_weights = torch.full((ENTITIES, TOKENS), 1 / TOKENS).log()
    kinds = torch.tensor([LINEAR, RANGE, ANGLE if dimension > 1 else RANGE]).repeat(OBSERVATIONS // 3)
    vectors = torch.randn(*shape, dimension, generator=generator)
    observations = Observations(
        kind=kinds.expand(shape).contiguous(),
        mask=torch.ones(shape, dtype=torch.bool),
        value=vectors,
        matrix=torch.eye(dimension).expand(*shape, dimension, dimension).contiguous(),
        origin=3 + vectors,
        heading=torch.zeros_like(vectors),
        standard_deviation=torch.ones(shape),
        rows=torch.where(kinds == LINEAR, float(dimension), 1.0).expand(shape).contiguous(),
        log_scale=torch.zeros(shape),
        outlier_probability=torch.full(shape, 0.1),
        outlier_log_density=torch.full(shape, -3.0),
    )
    return GaussianMixture(log_weights, means, covariances.contiguous()), observations


def _package(program: torch.export.ExportedProgram, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of PyTorch about itself
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
