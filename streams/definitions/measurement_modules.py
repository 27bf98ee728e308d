"""Imports modules that register custom measurements, before anything is fused.

Entry points of installed packages need no import here: `inference.likelihood.measurement_functions.find` loads them
by name.
"""

from __future__ import annotations

import importlib
import os
import sys

SETTING = "BELIEFSTREAM_MEASUREMENTS"


def load(modules: str) -> list[str]:
    """Import the modules of a comma-separated list; returns their names.

    Modules are searched on Python's path, and last in the working directory.

    Raises:
        ValueError: a module cannot be imported: it does not exist, or its import fails.
    """
    names = [name for part in modules.split(",") if (name := part.strip())]
    if (
        names and os.getcwd() not in sys.path
    ):  # a command's path contains its own folder, not the working directory
        sys.path.append(os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a user's module may raise anything
            raise ValueError(
                f"{SETTING}: {name} cannot be imported: {str(error) or type(error).__name__}"
            ) from error
    return names
