"""Packages of a compiled network: file names, directories, inputs and loading.

The packages of one network for one dimension are in one directory, named after everything that they depend on.
"""

from __future__ import annotations

import hashlib
import platform
import zipfile
from collections.abc import Callable
from dataclasses import fields
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network.transformer import DistributionTransformer

# fields of an observation with plain noise and no function
PLAIN = tuple(field.name for field in fields(Observations))[:11]
NETWORK, CHECK = "network.pt2", "check.pt2"
# images per token and steps of each, in the default settings and in the fast ones
WALKS = ((2, 4), (1, 2))
MOST_ENTITIES, MOST_OBSERVATIONS, MOST_PLACES = 65_536, 64, 64
MOST_DIMENSIONS = 16  # of a state
TOKENS = 8  # of the compiled network; answers with more tokens are computed uncompiled
NOT_COMPILED = ("evaluation", "training")  # folders whose code is in no package

Call = Callable[..., list[Tensor]]


def images_name(each: int, rounds: int) -> str:
    """Name of the package that draws `each` images per token, with `rounds` steps of each."""
    return f"images-{each}-{rounds}.pt2"


NAMES = (NETWORK, CHECK, *(images_name(*walk) for walk in WALKS))


def package_path(network: DistributionTransformer, dimension: int, points: int, directory: Path) -> Path:
    """Directory of the packages for these weights, this code, this PyTorch and this processor."""
    return directory / f"{package_digest(network, points)}-{dimension}"


def package_digest(network: DistributionTransformer, points: int) -> str:
    """Digest of everything that a package depends on, except its dimension."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    code = Path(str(resources.files("beliefstream.inference")))
    for file in sorted(code.rglob("*.py")):
        if file.relative_to(code).parts[0] not in NOT_COMPILED:
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


def load_package(path: Path) -> Call:
    """Load one package; raises a ValueError that names the file if it is missing, incomplete or damaged."""
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


def mixture_inputs(mixture: GaussianMixture) -> tuple[Tensor, Tensor, Tensor]:
    """A mixture as the inputs of a package."""
    return mixture.log_weights, mixture.means, mixture.covariances


def observation_inputs(observations: Observations) -> tuple[Tensor, ...]:
    """Observations as the inputs of a package: as many rows as the state has, and at least two observations."""
    more = max(0, observations.dimension - observations.value.shape[-1])
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
