"""Files of the published form of a problem: `.safetensors`, with the problem's names and the range of the training."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
import safetensors.torch

from beliefstream.inference.likelihood.learned.network import Names
from beliefstream.inference.likelihood.learned.weights import check_names
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.network.published.network import PublishedForm, form_from
from beliefstream.inference.network.published.priors import Families

KEY = "published form"


def save(form: PublishedForm, path: Path, facts: dict[str, str]) -> None:
    """Write weights, description and `facts` of the training."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in form.state_dict().items()}
    safetensors.torch.save_file(tensors, path, {**facts, KEY: json.dumps(form.describe())})
    path.chmod(0o644)  # a container runs as another user, who must read it


def load(path: Path, function: ProblemFunction, problem: str) -> PublishedForm:
    """Load the published form of a problem.

    Args:
        path: the file.
        function: the problem.
        problem: its name, as ``module:Name``.

    Raises:
        ValueError: there is no such file, or it is of another problem or other priors, incomplete or not finite.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"weights: {path} cannot be read: {error.strerror or error}; "
            f"beliefstream train --problem {problem} --form published --out {path.parent} writes it"
        ) from error
    try:
        form = _read(content)
    except KeyError as error:
        raise ValueError(f"weights: {path} cannot be used: it does not say its {error}") from error
    except (safetensors.SafetensorError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"weights: {path} cannot be used: {error}") from error
    check_names(form.names, Names.of(function, problem), path)
    found, wanted = (
        None if each is None else each.describe() for each in (form.families, Families.of(function))
    )
    if found != wanted:
        raise ValueError(f"weights: {path} are of other priors: they are {found}, expected {wanted}")
    return form


def _read(content: bytes) -> PublishedForm:
    length = int.from_bytes(content[:8], "little")  # of the header, which has the metadata
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + length])
    form = form_from(json.loads(header["__metadata__"][KEY]))
    form.load_state_dict(tensors)
    for name, value in tensors.items():
        if not bool(value.isfinite().all()):
            raise ValueError(f"{name} has numbers that are not finite")
    return form.requires_grad_(False).eval()
