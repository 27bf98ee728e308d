"""A worker whose local store fails while it takes over partitions."""

from __future__ import annotations

import json
from pathlib import Path

from beliefstream.streams.state.stores import STORE_FAILED
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.workers import PARTITIONS, stream

WAIT = 60.0  # seconds


def test_a_store_that_cannot_be_opened_ends_the_worker_with_one_clear_line(
    embedded_broker: EmbeddedNode, names: Names, tmp_path: Path
) -> None:
    beliefs = tmp_path / "data" / names.app_id
    beliefs.mkdir(parents=True)
    for partition in range(PARTITIONS):  # a directory that can neither be read nor be made, not even by root
        (beliefs / f"partition-{partition}").symlink_to("/dev/null/nowhere")
    with stream(embedded_broker, names, tmp_path) as opened:
        worker = opened.worker(store="rocksdb://", data_directory=tmp_path / "data").launch()
        assert worker.wait_until_ended(WAIT) == 70
    lines = [json.loads(line) for line in worker.log().splitlines()]
    (fault,) = [line for line in lines if line["level"] in ("error", "critical")]
    assert fault["event"] == STORE_FAILED
    assert fault["detail"].startswith(f"{beliefs}/partition-")
    assert "Traceback" not in worker.log()
