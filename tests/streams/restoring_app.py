"""For test_restoring: restores a table of beliefs, writes how many there are in each partition, and ends."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any, cast

import faust

from beliefstream.streams.kafka.faust.consumer import use_safe_consumer
from beliefstream.streams.state.table import BeliefTable
from beliefstream.streams.state.table_recovery import BeliefTableManager

PARTITIONS = 4
raw: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "value_serializer": "raw"}
app = faust.App(
    os.environ["APP_ID"],
    broker=f"kafka://{os.environ['BROKER']}",
    TableManager=BeliefTableManager,
    Table=BeliefTable,
    store=os.environ["STORE"],
    datadir=os.environ["DIRECTORY"],
    topic_disable_leader=True,
    topic_partitions=PARTITIONS,
    broker_session_timeout=6.0,
    broker_rebalance_timeout=6.0,
    broker_heartbeat_interval=1.0,
    worker_redirect_stdouts=False,
    web_enabled=False,
)
use_safe_consumer(app, fetch_high_watermark=os.environ["FETCH_HIGH_WATERMARK"] == "1")


async def topic_id() -> str:
    return "the id of the changelog"


beliefs: Any = app.Table(
    "beliefs",
    key_type=bytes,
    value_type=bytes,
    partitions=PARTITIONS,
    options={"directory": Path(os.environ["DIRECTORY"]), "topic_id": topic_id},
)
source = app.topic(os.environ["SOURCE"], partitions=PARTITIONS, **raw)


@app.agent(source)
async def ignore(stream: faust.StreamT[bytes]) -> None:
    async for _ in stream.events():
        pass


@app.task  # type: ignore[untyped-decorator]
async def count() -> None:
    while app.rebalancing or app.in_recovery or not app.tables.actives_ready:
        await asyncio.sleep(0.05)
    store = beliefs.store
    sizes = [store.size(partition) for partition in range(PARTITIONS)]
    recovery: Any = cast(BeliefTableManager, app.tables).recovery
    offsets = [recovery.active_offsets[tp] for tp in sorted(recovery.active_tps)]
    await store.on_stop()
    Path(os.environ["RESULT"]).write_text(json.dumps({"sizes": sizes, "offsets": offsets}))
    os._exit(0)


if __name__ == "__main__":
    app.main()
