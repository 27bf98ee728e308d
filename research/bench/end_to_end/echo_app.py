"""Baseline of the stream benchmark: a plain Faust agent that forwards every message."""

from __future__ import annotations

import os
from typing import Any

import faust

app = faust.App(
    os.environ["ECHO_APPLICATION"],
    broker=f"kafka://{os.environ['ECHO_BROKER']}",
    datadir=os.environ["ECHO_DATA"],
    topic_partitions=int(os.environ["ECHO_PARTITIONS"]),
    topic_allow_declare=False,
    topic_disable_leader=True,
    web_enabled=False,
    worker_redirect_stdouts=False,
)
RAW: dict[str, Any] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
}
source = app.topic(os.environ["ECHO_SOURCE"], **RAW)
sink = app.topic(os.environ["ECHO_SINK"], **RAW)


@app.agent(source)
async def echo(stream: faust.StreamT[bytes]) -> None:
    async for event in stream.events():
        await sink.send(key=event.key, value=event.value)


if __name__ == "__main__":
    import sys

    if sys.platform != "win32":
        import mode.loop

        mode.loop.use("uvloop")
    faust.Worker(app, override_logging=False, redirect_stdouts=False, quiet=True).execute_from_commandline()
