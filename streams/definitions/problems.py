"""Finds a problem of the user's by its name, among the modules that the operator has named.

A definition comes over a topic, and importing a module runs it. So a definition imports nothing: its module is one of
`measurement_modules.load`, or of beliefstream itself.
"""

from __future__ import annotations

import importlib
from functools import cache

from beliefstream.inference.likelihood.problems import Problem, check_names
from beliefstream.streams.definitions import measurement_modules

_OURS = "beliefstream.inference.likelihood.example_problems"


@cache
def find(name: str) -> Problem:
    """The problem ``module:Name``: an instance, or a class that takes no arguments; always the same object.

    Raises ValueError if its module is not among those of the setting, it has no such name, or it is no problem.
    """
    module_name, _, attribute = name.partition(":")
    if module_name not in measurement_modules.loaded() and module_name != _OURS:
        raise ValueError(
            f"problem: {name} is in a module that is not loaded; name it in {measurement_modules.SETTING}"
        )
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except AttributeError:
        raise ValueError(f"problem: {module_name} has no {attribute}") from None
    if isinstance(found, type):
        try:
            found = found()
        except Exception as error:  # a user's class may raise anything
            raise ValueError(f"problem: {name} cannot be made: {type(error).__name__}: {error}") from error
    check_names(found)
    problem: Problem = found
    return problem
