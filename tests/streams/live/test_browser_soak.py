"""The page in Chromium for ten minutes, with a thousand entities of eight components at five posteriors a second."""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser

from beliefstream.streams.kafka import topics
from beliefstream.streams.local.broker import EmbeddedBroker, free_port
from beliefstream.streams.settings import Settings
from research.bench.end_to_end import live as bench
from research.bench.end_to_end.site import cpu_seconds, process, unprotected, wait_for
from tests.streams.live.browsers import Tab

SECONDS = float(os.environ.get("BELIEFSTREAM_SOAK_SECONDS", "600"))
ENTITIES = 1000
WARM_SECONDS = 20.0
SAMPLES = 20
# ages of the posteriors that are new in a drawing, when it is done: the median of each drawing
AGES = """() => {
  const { map, world } = beliefstream, draw = map.draw.bind(map), known = new Map(), ages = [];
  map.draw = () => {
    draw();
    const now = Date.now() / 1000, fresh = [];
    for (const each of world.entities.values()) {
      if (known.get(each.name) !== each.time) fresh.push(now - each.time);
      known.set(each.name, each.time);
    }
    if (fresh.length) ages.push(fresh.sort((a, b) => a - b)[fresh.length >> 1]);
  };
  beliefstream.ages = ages;
}"""


class Reading(NamedTuple):
    """Bytes, seconds and numbers at one time."""

    time: float
    server: int
    server_cpu: float
    browser: int
    browser_cpu: float
    heap: int
    drawn: int


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 300)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell resident memory")
def test_memory_of_browser_and_server_is_flat(browser: Browser, opened: Tab, tmp_path: Path) -> None:
    """`pytest -m soak -s tests/streams/live/test_browser_soak.py` prints what it measures."""
    with EmbeddedBroker() as broker:
        settings = Settings(brokers=broker.bootstrap_servers, **unprotected())
        topics.create(settings.brokers, settings.names, partitions=settings.partitions)
        port, log = free_port(), tmp_path / "page.log"
        command = [sys.executable, "-m", "beliefstream.streams.cli", "live", "--port", str(port)]
        with (
            process(command, settings.environment(), log) as server,
            bench._beside(bench._send, settings.brokers, settings.names.posteriors, ENTITIES),
        ):
            wait_for(f"http://127.0.0.1:{port}/", server, log)
            opened.open(f"http://127.0.0.1:{port}/")
            opened.wait_for(f"beliefstream.world.entities.size === {ENTITIES}", 120)
            opened.value(AGES)
            devtools = browser.new_browser_cdp_session()

            def read() -> Reading:
                found = devtools.send("SystemInfo.getProcessInfo")["processInfo"]
                pages = opened.page.context.new_cdp_session(opened.page)
                pages.send("HeapProfiler.collectGarbage")
                heap = pages.send("Runtime.getHeapUsage")["usedSize"]
                pages.detach()
                return Reading(
                    time.monotonic(),
                    resident(server.pid),
                    cpu_seconds(server),
                    sum(resident(each["id"]) for each in found),
                    sum(each["cpuTime"] for each in found),
                    heap,
                    opened.value("beliefstream.world.drawn"),
                )

            opened.page.wait_for_timeout(1000 * WARM_SECONDS)
            opened.value("beliefstream.ages.length = 0")
            readings = [read()]
            for _ in range(SAMPLES):
                opened.page.wait_for_timeout(1000 * SECONDS / SAMPLES)
                readings.append(read())
            ages = opened.value("beliefstream.ages")
    report(readings, ages)
    first, last = readings[SAMPLES // 2], readings[-1]
    assert (last.drawn - first.drawn) / (last.time - first.time) > 2
    assert max(each.heap for each in readings) < 1.5 * readings[1].heap + 20e6
    assert max(each.browser for each in readings[SAMPLES // 2 :]) < 1.1 * first.browser + 20e6


def report(readings: list[Reading], ages: list[float]) -> None:
    first, last = readings[0], readings[-1]
    span = last.time - first.time
    print(f"\n{(last.drawn - first.drawn) / span:.2f} drawings a second over {span:.0f} s")
    print(f"from posterior to drawing: median {1e3 * statistics.median(ages):.0f} ms")
    print(f"server: {(last.server_cpu - first.server_cpu) / span:.3f} of a core")
    print(f"browser: {(last.browser_cpu - first.browser_cpu) / span:.2f} of a core")
    for name in ("server", "browser", "heap"):
        print(name, "in MB:", " ".join(f"{getattr(each, name) / 1e6:.0f}" for each in readings))


def resident(pid: int) -> int:
    """Bytes; 0 for a process that has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except FileNotFoundError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
