"""Trained weights: `.safetensors` files, each with its model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from torch import Tensor

from beliefstream.inference.likelihood.weight_files import parsed, reading, write
from beliefstream.inference.network.transformer import Configuration, DistributionTransformer

DEFAULT = "equivariant-32x4-16"


def path_of(name: str = DEFAULT) -> Path:
    """Path of the shipped weights `name`; the path of any other file is returned unchanged."""
    if name.endswith(".safetensors"):
        return Path(name)
    return Path(
        str(resources.files("beliefstream.inference.network.weights").joinpath(f"{name}.safetensors"))
    )


def save(network: DistributionTransformer, path: Path, metadata: dict[str, str]) -> None:
    """Write weights and their metadata; the configuration is included, so `load` needs nothing else."""
    described = {key: str(value) for key, value in network.describe().items()}
    write(network, path, {**metadata, "configuration": json.dumps(described)})


def load(name: str = DEFAULT) -> DistributionTransformer:
    """Load the shipped network `name`, or a `.safetensors` file.

    Raises FileNotFoundError if there is none, ValueError if the file is incomplete, of another shape or not finite.
    """
    path = path_of(name)
    if not path.exists():
        raise FileNotFoundError(f"weights: no file {path}")
    with reading(path):
        metadata, tensors = parsed(path.read_bytes())
        described = json.loads(metadata["configuration"])
        sizes = {key: int(described[key]) for key in ("width", "layers", "heads", "hidden")}
        if min(sizes.values()) < 1 or sizes["width"] % sizes["heads"]:
            raise ValueError(f"there is no network with {sizes}")
        network = DistributionTransformer(Configuration(**sizes))
        _check(network.state_dict(), tensors)
        network.load_state_dict(tensors)
    return network.eval()


def _check(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    """Raises a ValueError that names the first tensor that is missing, unknown or of the wrong shape."""
    for name in (*wanted, *(name for name in found if name not in wanted)):
        if name not in found:
            raise ValueError(f"there is no tensor {name}")
        if name not in wanted:
            raise ValueError(f"its configuration has no tensor {name}")
        shape, expected = tuple(found[name].shape), tuple(wanted[name].shape)
        if shape != expected:
            raise ValueError(f"{name} has the shape {shape}, its configuration says {expected}")
