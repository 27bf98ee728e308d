"""Files of trained weights: `.safetensors`, whose metadata say what they are of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor, nn


def write(network: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights of a network."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    safetensors.torch.save_file(tensors, path, metadata)
    path.chmod(0o644)  # a container runs as another user, who must read it


def content_of(path: Path, command: str) -> bytes:
    """The content of a file; raises ValueError, with the command that writes it, if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"weights: {path} cannot be read: {reason}; {command} --out {path.parent} writes it"
        ) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever fails inside, where a file's content is used, into a ValueError that names the file."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"weights: {path} cannot be used: it does not say its {error}") from error
    except (
        safetensors.SafetensorError,
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        OSError,
    ) as error:
        raise ValueError(f"weights: {path} cannot be used: {error}") from error


def parsed(content: bytes) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file's content; raises ValueError if a number is not finite."""
    tensors = safetensors.torch.load(content)
    length = int.from_bytes(content[:8], "little")  # of the header, which has the metadata
    header = json.loads(content[8 : 8 + length])
    for name, value in tensors.items():
        if not bool(value.isfinite().all()):
            raise ValueError(f"{name} has numbers that are not finite")
    return header.get("__metadata__", {}), tensors
