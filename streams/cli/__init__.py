"""The command line: `beliefstream X` is in `X.py`, and `beliefstream doctor` in `doctor/`.

Helpers of one command carry its name first, such as `dead_letters_output.py`. `commands.py` lists all commands.
"""

from __future__ import annotations

from beliefstream.streams.cli.main import main

__all__ = ["main"]
