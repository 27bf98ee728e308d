"""Files of the published form of a problem, with the problem's names and the range of the training."""

from __future__ import annotations

import json
from pathlib import Path

from beliefstream.inference.likelihood.learned.reports import Names
from beliefstream.inference.likelihood.learned.weights import check_names
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.weight_files import content_of, parsed, reading, write
from beliefstream.inference.published.network import PublishedForm, form_from
from beliefstream.inference.published.priors import Families

KEY = "published form"


def save(form: PublishedForm, path: Path, facts: dict[str, str]) -> None:
    """Write weights, description and `facts` of the training."""
    write(form, path, {**facts, KEY: json.dumps(form.describe())})


def load(path: Path, function: ProblemFunction, problem: str) -> PublishedForm:
    """Load the published form of a problem.

    Args:
        path: the file.
        function: the problem.
        problem: its name, as ``module:Name``.

    Raises:
        ValueError: there is no such file, or it is of another problem or other priors, incomplete or not finite.
    """
    content = content_of(path, f"beliefstream train-posterior {problem}")
    with reading(path):
        metadata, tensors = parsed(content)
        form = form_from(json.loads(metadata[KEY]))
        form.load_state_dict(tensors)
    check_names(form.names, Names.of(function, problem), path)
    found, wanted = (
        None if each is None else each.describe() for each in (form.families, Families.of(function))
    )
    if found != wanted:
        raise ValueError(f"weights: {path} are of other priors: they are {found}, expected {wanted}")
    return form.requires_grad_(False).eval()
