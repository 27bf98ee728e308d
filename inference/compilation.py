"""Ahead-of-time compilation of the network and its check, for about twice their speed on a CPU.

`compile_network` makes packages for a dimension with `torch.export` and AOTInductor. That takes about a minute and
needs a C++ compiler. `Compiled` loads the packages in milliseconds. A package takes any number of entities,
observations and components: nothing compiles while a stream runs. Without a package, or for a noise mixture or a
measurement function, the same code runs uncompiled.
"""

from __future__ import annotations

import hashlib
import platform
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import fields
from functools import cached_property
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from inference import importance
from inference.mixture import GaussianMixture, pad
from inference.observations import Observations
from inference.training.families import FAMILIES
from inference.transformer import DistributionTransformer, Estimate, Tokens, duplicate_components

# fields of an observation with plain noise and no function
PLAIN = tuple(field.name for field in fields(Observations))[:11]
MOST_ENTITIES, MOST_OBSERVATIONS, MOST_PLACES = 65_536, 64, 64
NETWORK, CHECK = "network.pt2", "check.pt2"
# images per token and steps of each, in the default settings and in the fast ones
WALKS = ((2, 4), (1, 2))
MOST_DIMENSIONS = 16  # of a state
TOKENS = 8  # of the compiled network; answers with more tokens are computed uncompiled

Call = Callable[..., list[Tensor]]


def _observations(parts: tuple[Tensor, ...]) -> Observations:
    return Observations(*parts)  # type: ignore[arg-type]


class Answer(nn.Module):
    """Tokens and observations in; the network's answer out."""

    def __init__(self, network: DistributionTransformer) -> None:
        super().__init__()
        self.network = network

    def forward(self, tokens: tuple[Tensor, ...], observations: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(self.network(Tokens(*tokens), _observations(observations)))


class Images(nn.Module):
    """Tokens and observations in; images of the prior out."""

    def __init__(self, each: int, rounds: int) -> None:
        super().__init__()
        self.each, self.rounds = each, rounds

    def forward(
        self, tokens: tuple[Tensor, ...], observations: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        return _parts(
            importance.prior_images(Tokens(*tokens), _observations(observations), self.each, self.rounds)
        )


class Check(nn.Module):
    """Prior, answer, images and observations in; the answer's quality out."""

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


def package_path(network: DistributionTransformer, dimension: int, points: int, directory: Path) -> Path:
    """Directory of the packages for these weights, this code, this PyTorch and this processor."""
    return directory / f"{package_digest(network, points)}-{dimension}"


def package_digest(network: DistributionTransformer, points: int) -> str:
    """Digest of everything that a package depends on, except its dimension."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    for file in sorted(Path(str(resources.files("inference"))).glob("*.py")):
        digest.update(file.read_bytes())
    digest.update(f"{torch.__version__} {platform.machine()} {_processor()} {points}".encode())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """Capabilities of the processor: code compiled for another may not run."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


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
    problems = FAMILIES["mixed"]().sample(8, dimension, torch.Generator().manual_seed(0))
    tokens = tuple(duplicate_components(problems.prior, TOKENS))
    seen = _plain_parts(problems.observations, dimension)
    batch = torch.export.Dim("batch", min=2, max=MOST_ENTITIES)
    number = torch.export.Dim("number", min=2, max=MOST_OBSERVATIONS)
    observed, given = tuple({0: batch, 1: number} for _ in seen), tuple({0: batch} for _ in tokens)
    taken = (given, observed)
    _package(
        torch.export.export(Answer(network.float().eval()), (tokens, seen), dynamic_shapes=taken),
        directory / NETWORK,
    )
    check = Check(points)
    prior, other, images = (_parts(pad(problems.prior, TOKENS + more)) for more in (1, 2, 3))
    check(prior, other, images, seen)  # draws the points, which are constants of the program
    counts = (torch.export.Dim(name, min=2, max=MOST_PLACES) for name in ("before", "after", "walked"))
    mixtures = (tuple({0: batch, 1: count} for _ in range(3)) for count in counts)
    shapes = (*mixtures, observed)
    _package(
        torch.export.export(check, (prior, other, images, seen), dynamic_shapes=shapes), directory / CHECK
    )
    for walk in WALKS:
        _package(
            torch.export.export(Images(*walk), (tokens, seen), dynamic_shapes=taken),
            directory / _walked(*walk),
        )


def _walked(each: int, rounds: int) -> str:
    return f"images-{each}-{rounds}.pt2"


def _package(program: torch.export.ExportedProgram, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of PyTorch about itself
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))


def _parts(mixture: GaussianMixture) -> tuple[Tensor, Tensor, Tensor]:
    return mixture.log_weights, mixture.means, mixture.covariances


def _plain_parts(observations: Observations, rows: int) -> tuple[Tensor, ...]:
    """The inputs of a package: `rows` rows, and at least two observations."""
    more = max(0, rows - observations.value.shape[-1])
    fewer = max(0, 2 - observations.mask.shape[1])
    parts = []
    for name in PLAIN:
        part: Tensor = getattr(observations, name)
        if name in ("value", "origin"):
            part = functional.pad(part, (0, more, 0, fewer))
        elif name == "matrix":
            part = functional.pad(part, (0, 0, 0, more, 0, fewer))
        elif name == "heading":
            part = functional.pad(part, (0, 0, 0, fewer))
        else:
            part = functional.pad(part, (0, fewer), value=1 if name == "standard_deviation" else 0)
        parts.append(part.contiguous())
    return tuple(parts)


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
        names = (NETWORK, CHECK, *(_walked(*walk) for walk in WALKS))
        dimensions = range(1, MOST_DIMENSIONS + 1)
        found = {d: [self._package(d, name) for name in names] for d in dimensions}
        return [dimension for dimension in dimensions if all(found[dimension])]

    def _package(self, dimension: int, name: str) -> Call | None:
        if (dimension, name) not in self._loaded:
            place = self._directory / f"{self._digest}-{dimension}"
            self._loaded[dimension, name] = _load(place / name) if place.exists() else None
        return self._loaded[dimension, name]

    @cached_property
    def _digest(self) -> str:
        return package_digest(self._network, self._points)

    def _fitting(self, observations: Observations, name: str) -> Call | None:
        plain = observations.has_plain_noise and observations.functions is None
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
        """As `importance.prior_images`; None where no package fits."""
        found = self._of_tokens(tokens, observations, _walked(each, rounds))
        return None if found is None else GaussianMixture(*found)

    def _of_tokens(self, tokens: Tokens, observations: Observations, name: str) -> list[Tensor] | None:
        package = self._fitting(observations, name)
        if package is None or tokens.source.shape[1] != TOKENS:
            return None
        results = package(_two(tuple(tokens)), _two(_plain_parts(observations, observations.dimension)))
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
        mixtures = [_two(_parts(pad(mixture, 2))) for mixture in (prior, answer, images)]
        seen = _two(_plain_parts(observations, observations.dimension))
        return importance.Quality(*(part[: observations.batch] for part in package(*mixtures, seen)))


def _load(path: Path) -> Call:
    try:
        with zipfile.ZipFile(path) as archive:  # a package is code: never run a truncated file
            torn = archive.testzip()
        if torn is not None:
            raise ValueError(f"{torn} in it is damaged")
        loaded: Call = torch._inductor.aoti_load_package(str(path))
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError) as error:
        remedy = f"delete {path.parent} and run `beliefstream compile`"
        raise ValueError(f"compiled: {path} cannot be used: {error}; {remedy}") from error
    return loaded


def _two(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Pad to at least two entities by repeating a single one."""
    return parts if parts[0].shape[0] > 1 else tuple(torch.cat([part, part]) for part in parts)
