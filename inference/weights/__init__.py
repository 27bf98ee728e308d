"""Trained weights, each a `.safetensors` file with its model card beside it."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from inference.transformer import Configuration, DistributionTransformer

DEFAULT = "equivariant-32x4-16"


def path_of(name: str = DEFAULT) -> Path:
    """Where shipped weights lie; a path to a file of one's own is returned as it is."""
    if name.endswith(".safetensors"):
        return Path(name)
    return Path(str(resources.files("inference.weights").joinpath(f"{name}.safetensors")))


def save(network: DistributionTransformer, path: Path, metadata: dict[str, str]) -> None:
    """Write weights and what made them; the configuration goes along, so that `load` needs nothing else."""
    described = {key: str(value) for key, value in network.describe().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    save_file(tensors, path, {**metadata, "configuration": json.dumps(described)})
    path.chmod(0o644)  # an image's user, who is not the one that trained, must read it


def load(name: str = DEFAULT) -> DistributionTransformer:
    """The network of that name, or of a `.safetensors` file.

    Raises FileNotFoundError if there is none, ValueError if the file is not whole or of another shape.
    """
    path = path_of(name)
    if not path.exists():
        raise FileNotFoundError(f"weights: no file {path}")
    try:
        with safe_open(path, "pt") as file:
            described = json.loads((file.metadata() or {})["configuration"])
        sizes = {key: int(described[key]) for key in ("width", "layers", "heads", "hidden")}
        network = DistributionTransformer(Configuration(**sizes))
        network.load_state_dict(load_file(path))
    except (SafetensorError, KeyError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"weights: {path} cannot be used: {error}") from error
    return network.eval()
