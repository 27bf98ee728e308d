"""Faults of the worker that imports it (BELIEFSTREAM_MEASUREMENTS), while their files are in the directory FAULTS.

`stuck`: what is fetched never arrives, as after a fault in the reading of Faust or aiokafka.
`slow`: the model takes as many seconds more for each batch as the file says.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

from beliefstream.streams.kafka.faust.consumer import SafeConsumer
from beliefstream.streams.worker import fusion

faults = Path(os.environ["FAULTS"])
_fusion, _consumer = cast(Any, fusion), cast(Any, SafeConsumer)
_run_rounds, _getmany, _deliver = _fusion.run_rounds, _consumer.getmany, _consumer._deliver


async def getmany(self: SafeConsumer, timeout: float) -> AsyncIterator[Any]:
    async for partition, message in _getmany(self, timeout):
        if not (faults / "stuck").exists():
            yield partition, message


def deliver(self: SafeConsumer, place: Any, records: list[Any]) -> int:
    if (faults / "stuck").exists():
        return len(records)
    count: int = _deliver(self, place, records)
    return count


def run_rounds(*arguments: Any) -> Any:
    slow = faults / "slow"
    if slow.exists():
        time.sleep(float(slow.read_text()))
    return _run_rounds(*arguments)


_consumer.getmany, _consumer._deliver, _fusion.run_rounds = getmany, deliver, run_rounds
