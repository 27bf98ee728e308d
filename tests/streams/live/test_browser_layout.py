"""The page on screens of every width, by finger, in both schemes: nothing is cut, and nothing is hidden."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

from beliefstream.schemas import DeadLetter, Mixture, RangeSensor, Reason
from beliefstream.streams.kafka.topics import TopicNames
from tests.brokers import EmbeddedNode
from tests.conftest import eventually
from tests.http_answers import PATIENCE
from tests.streams.client.topics import posterior
from tests.streams.live.browsers import ENTITIES, Tab, tab
from tests.streams.live.pages import Page, served

WIDTHS = {390: 844, 768: 1024, 1024: 768, 1440: 900, 2560: 1440}
NARROW = 900
# parts of words that stand on two lines; long names from topics may
BROKEN = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const broken = [], range = document.createRange();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!node.parentElement.checkVisibility()) continue;
    for (const word of node.data.matchAll(/[^\\s/-]{2,24}/g)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1) broken.push(word[0]);
    }
  }
  return broken;
}"""
# what reaches over the right border of its sheet, or of the page
WIDE = """() => [...document.querySelectorAll("body, body *")].filter((each) => {
  const sheet = each.closest("nav, aside") ?? document.documentElement, { right } = each.getBoundingClientRect();
  return each.checkVisibility() && right > sheet.getBoundingClientRect().left + sheet.clientWidth + 1.5;
}).map((each) => each.closest("[id]")?.id ?? each.tagName)"""
# what is written on a canvas while the expression is evaluated: texts, with their left and right ends
WRITTEN = """(draw) => {
  const texts = [], { prototype } = CanvasRenderingContext2D, { fillText } = prototype;
  prototype.fillText = function (text, x, y) {
    const wide = this.measureText(text).width;
    const left = x - ({ center: wide / 2, right: wide }[this.textAlign] ?? 0);
    texts.push([text, left, left + wide]);
  };
  try { draw(); } finally { prototype.fillText = fillText; }
  return texts;
}"""


@pytest.fixture(scope="module")
def crowded(embedded_broker: EmbeddedNode, module_topics: TopicNames) -> Iterator[Page]:
    """A page with a fleet, sensors at the borders, and a dead letter."""
    servers = embedded_broker.bootstrap_servers
    with served(servers, module_topics) as page:
        for number, place in enumerate([(-100.0, 1200.0), (100.0, 1250.0)]):
            name = f"north/roof-{number}/ultra-wideband"
            sensor = RangeSensor(sensor=name, position=place, standard_deviation=0.1)
            page.raw.send(page.topics.sensors, key=name.encode(), value=sensor.to_json())
        letter = DeadLetter(
            reason=Reason.wrong_length,
            detail="value: has 3 numbers, the sensor reports 1 number",
            topic="observations",
            partition=0,
            offset=1,
            value=b'{"entity": "fleet-a/mower-1", "sensor": "north/roof-0/ultra-wideband"}',
        )
        page.raw.send(page.topics.dead_letters, value=letter.value, headers=letter.headers())
        for name in ("fleet-a/mower-1", "fleet-a/mower-2", "fleet-b/ship-1"):
            model = "ships" if "ship" in name else "mowers"
            quality = posterior(1).quality.model_copy(
                update={"sample_efficiency": 0.2 if "ship" in name else 0.9}
            )
            times = (1_700_000_000.0 + 2 * number for number in range(30))
            page.put(
                *(
                    posterior(
                        number + 1, name, time=time, model=model, quality=quality, mixture=somewhere(number)
                    )
                    for number, time in enumerate(times)
                )
            )
    with served(servers, module_topics) as page:  # which reads the history at its start
        yield page


def somewhere(number: int) -> Mixture:
    return Mixture.gaussian((-46.126 + number, 1234.5), (2.5, 0.7))


def see(opened: Tab, page: Page, query: str = "") -> None:
    opened.open(f"{page.address}{query}")
    opened.wait_for("beliefstream.world.entities.size > 0 && beliefstream.map.fitted")


def written(opened: Tab, draw: str) -> list[tuple[str, float, float]]:
    return [tuple(each) for each in opened.value(f"({WRITTEN})(() => {draw})")]


def size(opened: Tab) -> dict[str, float]:
    """Of the map, and where it is."""
    box = opened.page.locator("#canvas").bounding_box()
    assert box is not None
    return {"x": box["x"], "y": box["y"], "width": box["width"], "height": box["height"]}


def sheet(opened: Tab, name: str) -> None:
    opened.page.locator(f"#sheets button[data-sheet={name}]").click()


def test_everything_has_room_at_every_width(opened: Tab, crowded: Page) -> None:
    see(opened, crowded, "#entity=fleet-a%2Fmower-1")
    opened.wait_for("document.querySelectorAll('#letters tbody tr, #own-letters tbody tr').length === 2")
    opened.wait_for("document.querySelectorAll('#sensors tbody tr').length === 2")
    opened.value("document.querySelector('#prior-box').open = true")
    opened.value("document.querySelector('#add').click()")
    for width, height in WIDTHS.items():
        opened.page.set_viewport_size({"width": width, "height": height})
        opened.wait_for(f"beliefstream.map.resize() ?? innerWidth === {width}")
        box = size(opened)
        assert box["width"] >= (width if width < NARROW else 0.44 * width)
        assert box["height"] > 0.5 * height
        for name in ("entities", "details", "health") if width < NARROW else (None,):
            if name:
                sheet(opened, name)
            assert opened.value(f"({WIDE})()") == [], (width, name)
            assert opened.value(f"({BROKEN})()") == [], (width, name)
            assert size(opened)["height"] > 0.2 * height
        opened.value("document.body.dataset.open = ''")
        opened.value("beliefstream.map.fit()")
        names = [each for each in written(opened, "beliefstream.map.draw()") if "wideband" in each[0]]
        assert len(names) == 2
        assert all(left >= 0 and right <= box["width"] for _, left, right in names), (width, names)


def test_the_chart_has_an_axis_of_time(opened: Tab, crowded: Page) -> None:
    see(opened, crowded, "#entity=fleet-a%2Fmower-1")
    opened.wait_for("beliefstream.series.samples.length === 30")
    texts = written(opened, "beliefstream.series.draw()")
    hour = opened.value("new Date(1_700_000_040_000).toLocaleTimeString([], { hourCycle: 'h23' })")
    assert hour in [text for text, _, _ in texts]
    shown = [(left, right) for text, left, right in texts if ":" in text]
    assert len(shown) >= 3
    assert all(right < left for (_, right), (left, _) in pairwise(shown))


def test_the_list_has_ages_filters_and_groups_and_the_map_follows(opened: Tab, crowded: Page) -> None:
    see(opened, crowded)
    opened.wait_for("document.querySelectorAll('#list .age').length === 3")

    def listed() -> list[str]:
        return [str(each) for each in opened.page.locator("#list li").all_inner_texts()]

    def shown() -> set[str]:
        return set(opened.value(f"[...{ENTITIES}.values()].map((each) => each.name)"))

    assert all(each.split("\n")[-1].endswith((" s", " min")) for each in listed())
    opened.page.select_option("#only", "poor")
    opened.wait_until(lambda: shown() == {"fleet-b/ship-1"}, shown)
    opened.page.select_option("#only", "silent")  # a record of now, whatever the time of the belief
    opened.wait_until(lambda: shown() == set(), shown)
    opened.page.select_option("#only", "")
    opened.page.select_option("#model", "mowers")
    opened.wait_until(lambda: shown() == {"fleet-a/mower-1", "fleet-a/mower-2"}, shown)
    opened.page.select_option("#model", "")
    opened.page.select_option("#group", "name")
    opened.wait_until(
        lambda: [each for each in listed() if "(" in each] == ["fleet-a/mower (2)", "fleet-b/ship (1)"],
        listed,
    )
    opened.page.click("text=fleet-a/mower (2)")
    opened.wait_until(lambda: len(listed()) == 3, listed)


def test_the_address_keeps_the_view_the_selection_and_the_filters(opened: Tab, crowded: Page) -> None:
    see(opened, crowded)
    opened.page.get_by_role("searchbox").fill("ship")
    opened.page.get_by_role("button", name="fleet-b/ship-1", exact=True).click()
    opened.page.focus("#canvas")
    opened.page.keyboard.press("+")
    opened.page.keyboard.press("ArrowLeft")
    view = "[map.left, map.bottom, map.scale].map((each) => +each.toPrecision(5))"
    before = opened.value(f"(({{ map }}) => {view})(beliefstream)")
    opened.wait_for(
        "['width=', 'entity=fleet-b', 'search=ship'].every((each) => location.hash.includes(each))"
    )
    opened.page.wait_for_timeout(400)  # the address is written a few times a second at most
    opened.page.reload()
    opened.wait_for(
        "document.querySelector('#who').textContent === 'fleet-b/ship-1' && beliefstream.map.touched"
    )
    opened.wait_for(f"{ENTITIES}.size === 1")
    np.testing.assert_allclose(opened.value(f"(({{ map }}) => {view})(beliefstream)"), before, rtol=1e-3)


def test_an_observation_that_is_not_in_the_belief_yet_says_so(opened: Tab, crowded: Page) -> None:
    for time in (1_700_000_050.0, 1_700_000_060.0):
        value = b'{"entity":"fleet-a/mower-2","sensor":"gps","time":%f,"value":[1,2]}' % time
        crowded.raw.send(crowded.topics.observations, key=b"fleet-a/mower-2", value=value)
    crowded.raw.flush()
    entities = crowded.page.content.beliefs.entities
    name = "fleet-a/mower-2"
    eventually(lambda: name in entities and len(entities[name].observations) == 2, PATIENCE, "both are read")
    see(opened, crowded, "#entity=fleet-a%2Fmower-2")
    cells = "[...document.querySelectorAll('#reports td:last-child')].map((each) => each.textContent)"
    opened.wait_until(lambda: len(opened.value(cells)) == 2, lambda: opened.value(cells))
    assert opened.value(cells) == ["2.00 s after: not in it yet", "8.00 s before"]


def test_fingers_draw_a_prior_and_zoom(browser: Browser, crowded: Page) -> None:
    screen: Any = {"width": 390, "height": 844}
    with tab(browser, viewport=screen, has_touch=True, is_mobile=True) as opened:
        see(opened, crowded)
        fingers = opened.page.context.new_cdp_session(opened.page)
        box = size(opened)
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

        def touch(kind: str, *places: tuple[float, float]) -> None:
            points = [{"x": a, "y": b, "id": number} for number, (a, b) in enumerate(places)]
            fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        scale = opened.value("beliefstream.map.scale")
        touch("touchStart", (x - 30, y), (x + 30, y))
        for apart in (40, 50, 60):
            touch("touchMove", (x - apart, y), (x + apart, y))
        touch("touchEnd")
        opened.wait_for(f"Math.abs(beliefstream.map.scale / {scale} - 2) < 0.05")
        assert opened.value("beliefstream.map.ellipses.length") == 0
        opened.page.tap("#draw")
        centre = opened.value(f"beliefstream.map.at({{ clientX: {x}, clientY: {y} }})")
        touch("touchStart", (x, y))
        touch("touchMove", (x + 20, y + 10))
        touch("touchMove", (x + 40, y + 30))
        touch("touchEnd")
        opened.wait_for("beliefstream.map.ellipses.length === 1")
        ellipse = opened.value("beliefstream.map.ellipses[0]")
        np.testing.assert_allclose([ellipse["x"], ellipse["y"]], centre, rtol=1e-6, atol=1e-9)
        assert ellipse["rx"] > ellipse["ry"] > 0
        assert opened.page.is_visible("#send")  # the form has come by itself
        assert opened.value(f"({WIDE})()") == []
        assert opened.complaints == []


def test_the_page_is_light_where_that_is_wished(opened: Tab, crowded: Page) -> None:
    see(opened, crowded)
    back = "getComputedStyle(document.body).backgroundColor"
    assert opened.value(back) == "rgb(15, 20, 29)"
    opened.page.emulate_media(color_scheme="light")
    assert opened.value(back) == "rgb(255, 255, 255)"
    opened.wait_for("beliefstream.map.colours.belief === '#0072b2'")
    mark = 'import("./sensors.js").then(({ MARKS }) => MARKS.healthy.colour)'
    assert opened.page.evaluate(f"() => {mark}") == "#00805c"
