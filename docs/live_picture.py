"""Draws `docs/live.png` and the moving `docs/live.webp`: fifty simulated entities, a worker, the live page in Chromium.

    python -m docs.live_picture

It needs Debian's `chromium`, starts a broker of its own, and takes about a minute.
"""

from __future__ import annotations

import shutil
import sys
import time
import urllib.request
from contextlib import ExitStack
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from beliefstream.streams.kafka import topics
from beliefstream.streams.local.broker import EmbeddedBroker, free_port
from research.bench.end_to_end.site import Site, process, wait_until_ready, worker

PICTURE = Path(__file__).with_name("live.png")
MOVING, RECORDED, SMALL = (
    PICTURE.with_suffix(".webp"),
    10.0,
    (1050, 638),
)  # its seconds, and its size in pixels
SIZE = {"width": 1400, "height": 850}
COMMAND = (sys.executable, "-m", "beliefstream.streams.cli")
SIMULATE = ("simulate", "--entities", "50", "--duration", "600", "--rate", "2")
SHOWN_AFTER = 40.0  # seconds of the simulation, for the trails and the chart
PATIENCE = 60.0  # seconds
MOST_LAG = 300  # messages: workers commit once a second


def main() -> None:
    """Start everything, and take the picture."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        broker = stack.enter_context(EmbeddedBroker())
        settings = Site("embedded", broker.bootstrap_servers).settings()
        topics.create(settings.brokers, settings.names, partitions=settings.partitions)
        wait_until_ready(settings, stack.enter_context(worker(settings)))
        address = f"http://127.0.0.1:{(port := free_port())}/"
        for number, arguments in enumerate((SIMULATE, ("live", "--port", str(port)))):
            command = [*COMMAND, *arguments]
            stack.enter_context(process(command, settings.environment(), folder / f"{number}.log"))
        _wait_until_served(address)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or "chromium", args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=SIZE, color_scheme="dark")  # type: ignore[arg-type]
        page.goto(address)
        page.wait_for_timeout(1000 * SHOWN_AFTER)
        _wait_until_it_keeps_up(page)
        _select(page)
        _record(page)
        _draw_a_prior(page)
        page.screenshot(path=PICTURE)
        browser.close()


def _select(page: Page) -> None:
    """Select an entity, and wait until its chart is filled."""
    page.locator("#list button").nth(7).click()
    page.wait_for_timeout(1000 * SHOWN_AFTER / 4)


def _record(page: Page) -> None:
    """Write the moving picture, with as many frames as the machine draws."""
    frames, times, began = list[Image.Image](), list[float](), time.monotonic()
    while not times or times[-1] < RECORDED:
        frames.append(Image.open(BytesIO(page.screenshot())).convert("RGB").resize(SMALL))
        times.append(time.monotonic() - began)
    shown = [round(1000 * (later - earlier)) for earlier, later in pairwise([0.0, *times])]
    frames[0].save(MOVING, save_all=True, append_images=frames[1:], duration=shown, loop=0, quality=55)


def _draw_a_prior(page: Page) -> None:
    """Draw a prior beside the selected entity."""
    place = page.evaluate(
        """() => { const { map } = beliefstream, box = map.canvas.getBoundingClientRect(), c = map.selected.components;
        return [box.left + map.x(c[1]) + 60, box.top + map.y(c[2]) - 60]; }"""
    )
    page.click("#draw")
    page.mouse.move(*place)
    page.mouse.down()
    page.mouse.move(place[0] + 45, place[1] - 28, steps=4)
    page.mouse.up()
    page.wait_for_timeout(500)


def _wait_until_it_keeps_up(page: Page) -> None:
    """A worker that has just started on a busy machine is behind for a while."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        lag, latency = page.inner_text("#lag"), page.inner_text("#latency")
        if lag.isdigit() and int(lag) < MOST_LAG and latency != "-":
            return
        page.wait_for_timeout(200)
    print("the worker does not keep up; the picture shows it")


def _wait_until_served(address: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(address, timeout=1.0):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


if __name__ == "__main__":
    main()
