"""`beliefstream worker` whose commits fail while the file that HOLD names is there, as if the coordinator were away."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP

from beliefstream.streams.cli import main

held = Path(os.environ["HOLD"])
commit = Consumer._commit


async def commit_unless_held(self: Consumer, offsets: Mapping[TP, int]) -> bool:
    return False if held.exists() else await commit(self, offsets)


cast(Any, Consumer)._commit = commit_unless_held

if __name__ == "__main__":
    main(["worker"])
