"""Files of learned likelihoods, with the problem's names and the range of the training."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

from beliefstream.inference.likelihood.learned.network import LearnedLikelihood, learned_from
from beliefstream.inference.likelihood.learned.reports import Names
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.weight_files import content_of, parsed, reading, write


def save(likelihood: LearnedLikelihood, path: Path, facts: dict[str, str]) -> None:
    """Write weights, description and `facts` of the training."""
    write(likelihood, path, {**facts, "likelihood": json.dumps(likelihood.describe())})


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
    content = content_of(path, f"beliefstream train-likelihood {problem}")
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise ValueError(f"sha256: {path} has the digest {found}, expected {sha256}")
    with reading(path):
        likelihood = _read(content, function)
    check_names(likelihood.names, Names.of(function, problem), path)
    _check_features(likelihood, function, path)
    likelihood.digest = found
    return likelihood


def _read(content: bytes, function: ProblemFunction) -> LearnedLikelihood:
    metadata, tensors = parsed(content)
    described = json.loads(metadata["likelihood"])
    likelihood = learned_from(described, function.features if function.has_features else None)
    likelihood.load_state_dict(tensors)
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
