"""Measurements of one's own: modules that register them are imported before anything is fused.

What installed packages offer as entry points needs no import here: `inference.measurement.find` does it by name.
"""

from __future__ import annotations

import importlib
import os
import sys

SETTING = "BELIEFSTREAM_MEASUREMENTS"


def load(modules: str) -> list[str]:
    """Import the modules of a comma-separated list; returns their names.

    They are found where Python finds modules, and last in the working directory.

    Raises:
        ValueError: one cannot be imported: it is not there, or fails itself.
    """
    names = [name for part in modules.split(",") if (name := part.strip())]
    if (
        names and os.getcwd() not in sys.path
    ):  # a command's path has its own folder, not the working directory
        sys.path.append(os.getcwd())
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a module of somebody else's may raise anything
            raise ValueError(
                f"{SETTING}: {name} cannot be imported: {str(error) or type(error).__name__}"
            ) from error
    return names
