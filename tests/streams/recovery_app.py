"""A worker for test_recovery: keeps the last offset of every key in a table, and writes down what it does.

Lines of the file: `processed PARTITION OFFSET`, and at every recovery `restored {key: offset}`.

Its seek to the committed offsets takes a while, as under load, and so does its processing: Faust's own
recovery then loses records at about every start into a backlog.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from typing import Any, cast

import faust
from faust.types import TP, StreamT

from beliefstream.streams.kafka.faust.consumer import use_safe_consumer
from beliefstream.streams.kafka.faust.recovery import SafeTableManager

app = faust.App(
    os.environ["APP_ID"],
    broker=f"kafka://{os.environ['BROKER']}",
    TableManager=SafeTableManager,
    topic_disable_leader=True,
    topic_partitions=4,
    broker_session_timeout=2.0,
    broker_rebalance_timeout=2.0,
    broker_heartbeat_interval=0.5,
    broker_commit_interval=0.3,
    stream_wait_empty=True,
    worker_redirect_stdouts=False,
)
use_safe_consumer(app, fetch_high_watermark=os.environ["FETCH_HIGH_WATERMARK"] == "1")

transport = cast(Any, app.transport)


class SlowConsumer(transport.Consumer):  # type: ignore[misc, name-defined]
    """The consumer chosen above, with a slow seek."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        offsets: Mapping[TP, int] = await super().seek_to_committed()
        await asyncio.sleep(1.5)  # longer than a fetch waits, 1 s
        return offsets


transport.Consumer = SlowConsumer
source = app.topic(
    os.environ["SOURCE"], key_type=bytes, value_type=bytes, value_serializer="raw", partitions=4
)
beliefs = app.Table("beliefs", key_type=str, value_type=int, partitions=4)
journal = open(os.environ["JOURNAL"], "a", buffering=1)  # noqa: SIM115  for as long as the process lives


@app.agent(source)
async def follow(stream: StreamT[bytes]) -> None:
    async for event in stream.events():
        await asyncio.sleep(0.001)
        beliefs[event.key.decode()] = event.message.offset
        journal.write(f"processed {event.message.partition} {event.message.offset}\n")


@beliefs.on_recover
async def restored() -> None:
    journal.write(f"restored {json.dumps(dict(beliefs.data.items()))}\n")


if __name__ == "__main__":
    app.main()
