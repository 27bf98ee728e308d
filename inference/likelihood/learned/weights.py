"""Files of learned likelihoods: `.safetensors`, with the problem's names and the range of the training."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import safetensors
import safetensors.torch

from beliefstream.inference.likelihood.learned.network import LearnedLikelihood, Names, learned_from
from beliefstream.inference.likelihood.problem_functions import ProblemFunction


def save(likelihood: LearnedLikelihood, path: Path, facts: dict[str, str]) -> None:
    """Write weights, description and `facts` of the training."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in likelihood.state_dict().items()}
    metadata = {**facts, "likelihood": json.dumps(likelihood.describe())}
    safetensors.torch.save_file(tensors, path, metadata)
    path.chmod(0o644)  # a container runs as another user, who must read it


def load(path: Path, problem: str, function: ProblemFunction, sha256: str | None = None) -> LearnedLikelihood:
    """Load the likelihood of a problem, in double precision.

    Args:
        path: the file.
        problem: the problem's name, as ``module:Name``.
        function: the problem itself.
        sha256: the digest that the file must have, in lower-case hexadecimal digits; None for any.

    Raises:
        ValueError: there is no such file, it has another digest, is of another problem, incomplete or not finite.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"weights: {path} cannot be read: {error.strerror or error}; "
            f"beliefstream train --problem {problem} --out {path.parent} writes it"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise ValueError(f"sha256: {path} has the digest {found}, expected {sha256}")
    try:
        likelihood = _read(content, function)
    except KeyError as error:
        raise ValueError(f"weights: {path} cannot be used: it does not say its {error}") from error
    except (safetensors.SafetensorError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"weights: {path} cannot be used: {error}") from error
    check_names(likelihood.names, Names.of(function, problem), path)
    _check_features(likelihood, function, path)
    likelihood.digest = found
    return likelihood


def _read(content: bytes, function: ProblemFunction) -> LearnedLikelihood:
    length = int.from_bytes(content[:8], "little")  # of the header, which has the metadata
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + length])
    described = json.loads(header["__metadata__"]["likelihood"])
    likelihood = learned_from(described, function.features if function.has_features else None)
    likelihood.load_state_dict(tensors)
    for name, value in tensors.items():
        if not bool(value.isfinite().all()):
            raise ValueError(f"{name} has numbers that are not finite")
    if not (math.isfinite(likelihood.expected_error) and likelihood.expected_error >= 0):
        raise ValueError(f"expected_error must be a number from 0 on, got {likelihood.expected_error}")
    likelihood.double()
    return likelihood.requires_grad_(False).eval()


def check_names(found: Names, wanted: Names, path: Path) -> None:
    """Raises ValueError if the weights are of another problem."""
    for name in ("problem", "parameters", "data", "context", "rows"):
        ours, theirs = getattr(wanted, name), getattr(found, name)
        if ours != theirs:
            raise ValueError(
                f"weights: {path} are of another problem: its {name} is {_shown(theirs)}, expected {_shown(ours)}"
            )


def _check_features(likelihood: LearnedLikelihood, function: ProblemFunction, path: Path) -> None:
    """Raises ValueError if the problem's features fail in the middle of the range, or are others in number."""
    if likelihood.features is None:
        return
    middle = ((likelihood.low + likelihood.high) / 2)[None]
    count = len(function.parameters)
    found, wanted = (
        function.features(middle[:, :count], middle[:, count:]).shape[1],
        len(likelihood.known_low),
    )
    if found != wanted:
        raise ValueError(
            f"weights: {path} are of another problem: it has {wanted} features, expected {found}"
        )


def _shown(value: object) -> object:
    if not isinstance(value, tuple):
        return value
    return dict(value) if all(isinstance(each, tuple) for each in value) and value else list(value)
