"""Chromium as the system has it, without a window; nothing is downloaded."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1400, "height": 850}
ENTITIES = "beliefstream.world.entities"
# from a copy, since Chromium warns when a canvas that it draws on is read again and again
PIXELS = """(places) => {
  const { map } = beliefstream, dots = devicePixelRatio, { width, height } = map.canvas;
  const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  pen.drawImage(map.canvas, 0, 0);
  return places.map(([x, y]) => [...pen.getImageData(map.x(x) * dots, map.y(y) * dots, 1, 1).data]);
}"""


@dataclass
class Tab:
    """A page in the browser, and what it complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def open(self, address: str) -> None:
        self.page.goto(address)

    def value(self, expression: str) -> Any:
        return self.page.evaluate(expression)

    def wait_for(self, expression: str, timeout: float = 30.0) -> None:
        """Until the JavaScript expression is true."""
        # not by wait_for_function, which evaluates a text within the page: the policy forbids that
        self.wait_until(lambda: self.value(expression), lambda: expression, timeout)

    def wait_until(
        self, condition: Callable[[], object], what: Callable[[], object], timeout: float = 30.0
    ) -> None:
        """Until the condition holds; `what` says what is there instead."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"not within {timeout:g} s: {what()}; {self.complaints}")
            self.page.wait_for_timeout(20)

    def pixels(self, places: Sequence[tuple[float, float]]) -> list[list[int]]:
        """Red, green, blue and opacity of the map at each place; all 0 outside of it."""
        return list(self.page.evaluate(PIXELS, [list(place) for place in places]))

    def note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; the test is skipped where there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def tab(browser: Browser, **options: Any) -> Iterator[Tab]:
    context = browser.new_context(**{"viewport": SIZE, "color_scheme": "dark"} | options)
    opened = Tab(context.new_page())
    opened.page.on("console", opened.note)
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    yield opened
    context.close()


def show(opened: Tab, address: str, name: str = "mower") -> None:
    """Open the page and select an entity, once the map has been drawn with it."""
    opened.open(address)
    opened.wait_for(f"{ENTITIES}.size > 0 && beliefstream.map.fitted")
    opened.page.get_by_role("button", name=name, exact=True).first.click()
    opened.wait_for(f"document.querySelector('#who').textContent === {name!r}")


def add(opened: Tab) -> None:
    """Add an ellipse to the form of the prior."""
    opened.value("document.querySelector('#prior-box').open = true")
    opened.page.click("#add")


def draw(opened: Tab, centre: tuple[float, float], radius: float) -> None:
    """Draw a prior with the mouse, in coordinates of the map."""
    x, y = centre
    opened.value("beliefstream.map.touched = true")
    opened.value("beliefstream.map.zoom(0.2, 0, 0)")  # out, so that the centre is on the map
    place = "(([x, y]) => { const m = beliefstream.map, b = m.canvas.getBoundingClientRect();"
    place += " return [b.left + m.x(x), b.top + m.y(y)]; })"
    begin, end = (opened.value(f"{place}([{a}, {b}])") for a, b in ((x, y), (x + radius, y + radius)))
    opened.page.click("#draw")
    opened.page.mouse.move(*begin)
    opened.page.mouse.down()
    opened.page.mouse.move(*end, steps=4)
    opened.page.mouse.up()
