"""Imports modules that register measurement functions or hold problems, before observations are processed.

`inference.likelihood.measurement_functions.find` loads the entry points of installed packages by name, so they need
no import here.
"""

from __future__ import annotations

import importlib
import os
import sys

from beliefstream.inference.likelihood.failures import FAILURES, explanation

SETTING = "BELIEFSTREAM_MEASUREMENTS"
_loaded: set[str] = set()


def loaded() -> frozenset[str]:
    """Names of all modules that were loaded here."""
    return frozenset(_loaded)


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
        _loaded.add(name)
    return names
