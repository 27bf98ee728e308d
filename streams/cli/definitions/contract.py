"""`beliefstream contract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def contract(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="created if missing")] = Path("contract"),
) -> None:
    """Write the contract of the topics: a JSON Schema for each message, and an AsyncAPI 3 document.

    Example: beliefstream contract contract/
    """
    from beliefstream.schemas.contract import write

    for path in write(directory):
        print(path)
