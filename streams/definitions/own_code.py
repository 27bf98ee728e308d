"""Code of the user's own: modules that register measurement functions or hold problems, and problems by their names.

A definition comes over a topic, and importing a module runs it. So a definition imports nothing: its module is one of
those that the operator has named for `load`, or of beliefstream itself. Functions of installed packages are entry
points, which `inference.likelihood.measurement_functions.find` loads by name.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
from functools import cache, lru_cache
from pathlib import Path

from beliefstream.inference.likelihood.learned import weights as files
from beliefstream.inference.likelihood.learned.network import LearnedLikelihood
from beliefstream.inference.likelihood.measurement_functions import FAILURES, explanation
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ExplicitProblem, Problem, check_names

SETTING = "BELIEFSTREAM_MEASUREMENTS"
_OURS = "beliefstream.inference.likelihood.example_problems"
_modules: set[str] = set()  # that were loaded here


def load(modules: str) -> list[str]:
    """Import the modules of a comma-separated list, and return their names.

    They are searched on Python's path first, then in the working directory.

    Raises:
        ValueError: a module does not exist, or its import fails.
    """
    names = [name for part in modules.split(",") if (name := part.strip())]
    if names and os.getcwd() not in sys.path:  # the path of an installed command lacks the working directory
        sys.path.append(os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except FAILURES as error:  # a user's module may raise anything
            raise ValueError(f"{SETTING}: {name} cannot be imported: {explanation(error)}") from error
        _modules.add(name)
    return names


@cache
def find(name: str) -> Problem:
    """The problem ``module:Name``: an instance, or a class that takes no arguments; always the same object.

    Raises ValueError if its module is not among those of the setting, it has no such name, or it is no problem.
    """
    module_name, _, attribute = name.partition(":")
    if module_name not in _modules and module_name != _OURS:
        raise ValueError(f"problem: {name} is in a module that is not loaded; name it in {SETTING}")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except AttributeError:
        raise ValueError(f"problem: {module_name} has no {attribute}") from None
    if isinstance(found, type):
        try:
            found = found()
        except FAILURES as error:  # a user's class may raise anything
            raise ValueError(f"problem: {name} cannot be made: {type(error).__name__}: {error}") from error
    check_names(found)
    problem: Problem = found
    return problem


def learned(name: str, weights: str | None = None, sha256: str | None = None) -> LearnedLikelihood | None:
    """The learned likelihood of the problem ``module:Name``; None if it has its own and no `weights` are named.

    Files lie beside the module's own file; without a name it is that of the problem. The same content is the same
    object, so that sensors of one problem are evaluated together.

    Raises ValueError if the file is missing, has another digest than `sha256`, or is of another problem.
    """
    problem = find(name)
    if weights is None and isinstance(problem, ExplicitProblem):
        return None
    module_name, _, attribute = name.partition(":")
    module = sys.modules[module_name]
    folder = Path(module.__file__).parent if module.__file__ is not None else Path()
    path = folder / (weights or f"{attribute}.safetensors")
    if weights is None and not path.exists():
        raise ValueError(
            f"log_likelihood: {name} has none, and there are no weights {path}; "
            f"beliefstream train-likelihood {name} --out {folder} writes them"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    return _loaded(name, path, sha256, digest)


@lru_cache(maxsize=64)
def _loaded(name: str, path: Path, sha256: str | None, digest: str) -> LearnedLikelihood:
    """`digest` is that of the file now, so that a new file is loaded again."""
    return files.load(path, name, ProblemFunction.of(find(name)), sha256)
