"""`beliefstream worker` that reads definitions only when a batch asks for them, as if they came late otherwise."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from beliefstream.streams.cli import main
from beliefstream.streams.definitions.reader import DefinitionsReader


async def follow_never(_: DefinitionsReader) -> None:
    await asyncio.Event().wait()


cast(Any, DefinitionsReader)._follow = follow_never

if __name__ == "__main__":
    main(["worker"])
