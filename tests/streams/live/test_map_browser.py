"""What is drawn on the map, in Chromium: beliefs by density and age, names, trails, and fingers on it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from beliefstream.schemas import Mixture, Posterior
from tests.streams.client.topics import posterior
from tests.streams.live.browsers import ENTITIES, Tab
from tests.streams.live.pages import Page

TEXTS = """() => {
  const { map } = beliefstream, texts = [], { fillText } = map.pen;
  map.pen.fillText = (text, x, y) => texts.push([text, x, y]);
  try { map.draw(); } finally { delete map.pen.fillText; }
  return texts;
}"""


def put(page: Page, each: Posterior, age: float = 0.0) -> None:
    """Put a posterior whose record is so old."""
    stamp = int(1000 * (time.time() - age))
    page.raw.send(page.topics.posteriors, key=each.entity.encode(), value=each.to_json(), timestamp_ms=stamp)
    page.raw.flush()


def at(x: float, y: float, name: str, deviation: float = 0.5) -> Posterior:
    return posterior(1, name, mixture=Mixture.gaussian((x, y), deviation))


def look(opened: Tab, left: float, bottom: float, scale: float) -> None:
    view = f"left: {left}, bottom: {bottom}, scale: {scale}"
    opened.value(f"Object.assign(beliefstream.map, {{ touched: true, fitted: true, {view} }}).draw()")


def brightness(opened: Tab, *places: tuple[float, float]) -> list[float]:
    return [sum(colours) * opacity / 255 for *colours, opacity in opened.pixels(places)]


def test_area_dilutes_a_belief_and_a_thin_line_shows_where_a_vague_one_is(opened: Tab, page: Page) -> None:
    for number in range(6):
        put(page, at(10 * number, 0, f"e-{number}"))
    opened.open(page.address)
    opened.wait_for(f"{ENTITIES}.size === 6")
    look(opened, -70, -90, 4)
    (alone,) = brightness(opened, (0.3, 0))
    put(page, at(25, 0, "reset", 30))
    opened.wait_for(f"{ENTITIES}.size === 7")
    look(opened, -70, -90, 4)
    edge = 25 + 30 * np.sqrt(-2 * np.log(0.1))
    inside, clear, *ring = brightness(opened, (0.3, 0), (23, 17), *((edge + d, 0) for d in (-0.2, 0, 0.2)))
    assert inside == pytest.approx(alone, rel=0.05)
    assert alone > 150
    assert clear < 8
    assert max(ring) > 40
    # where nothing is narrow, the same belief is drawn strongly
    opened.value(
        f"{{ const e = {ENTITIES}; for (const [id, each] of e) if (each.name !== 'reset') e.delete(id); }}"
    )
    look(opened, -70, -90, 4)
    assert brightness(opened, (23, 17))[0] > 40


def test_many_vague_beliefs_over_each_other_do_not_add_up_to_a_bright_disc(opened: Tab, page: Page) -> None:
    for number in range(20):
        put(page, at(0, 0, f"e-{number}", 30))
    opened.open(page.address)
    opened.wait_for(f"{ENTITIES}.size === 20")
    look(opened, -60, -60, 5)
    assert 30 < brightness(opened, (13, 17))[0] < 400  # of 499


def test_a_silent_entity_fades_its_age_stands_at_its_name_and_a_stale_stream_is_grey(
    opened: Tab, page: Page
) -> None:
    for number in range(3):
        put(page, at(20 * number, 0, f"e-{number}"), age=150.0 if number == 2 else 0.0)
    opened.open(page.address)
    opened.wait_for(f"{ENTITIES}.size === 3")
    look(opened, -5, -20, 15)
    fresh, silent = brightness(opened, (0.2, 0), (40.2, 0))
    assert 20 < silent < 0.5 * fresh
    names = [text for text, _, _ in opened.value(f"({TEXTS})()")]
    assert {"e-0", "e-1", "e-2 · 2 min"} <= set(names)
    opened.value("beliefstream.world.sensors = [{ name: 'mast', kind: 'range', place: [20, 0] }]")
    names = [text for text, _, _ in opened.value(f"({TEXTS})()")]
    assert "mast" in names
    assert "e-1" not in names  # the sensor's name has its place

    def blueness(stale: str) -> float:
        # in one go: the page itself says with each message that its stream is fresh
        opened.value(f"beliefstream.map.stale = {stale}")
        look(opened, -5, -20, 15)
        red, _, blue, _ = opened.pixels([(0.2, 0)])[0]
        return blue - red

    opened.wait_until(lambda: blueness("true") < 40, lambda: "a grey map")
    opened.wait_until(lambda: blueness("false") > 100, lambda: "a coloured map")


def test_what_is_under_the_mouse_is_told_and_no_label_lies_under_the_tools_or_the_legend(
    opened: Tab, page: Page
) -> None:
    put(page, at(1234.5, -3, "mower", 2))
    opened.open(page.address)
    opened.wait_for(f"{ENTITIES}.size === 1 && beliefstream.map.fitted")
    corner = "(() => { const { map } = beliefstream, b = map.canvas.getBoundingClientRect();"
    x, y = opened.value(f"{corner} return [b.left + map.x(1234.5), b.top + map.y(-3)]; }})()")
    opened.page.mouse.move(x, y)
    opened.wait_for("beliefstream.map.hover !== null")
    texts = opened.value(f"({TEXTS})()")
    told = [text for text, _, _ in texts]
    assert {"x 1234.5 ± 2.0 m", "y -3.0 ± 2.0 m", "sample efficiency 0.90, transformer"} <= set(told)
    assert any(text.endswith("s ago") for text in told)
    top, bottom = opened.value(
        f"{corner} return ['#tools', '#legend'].map((each) => document.querySelector(each).getBoundingClientRect())"
        ".map((each, i) => (i ? each.top : each.bottom) - b.top); })()"
    )
    axes = [(text, y) for text, _, y in texts if text in ("x (m) →", "↑ y (m)") or text.lstrip("-").isdigit()]
    assert len(axes) >= 6
    assert all(top + 8 < y < bottom for _, y in axes)
    opened.page.mouse.move(x + 200, y)
    opened.wait_for("beliefstream.map.hover[0] > 1235")
    assert "sample efficiency 0.90, transformer" not in [each[0] for each in opened.value(f"({TEXTS})()")]


def test_a_trail_is_a_line_without_the_leaps_of_a_correction(opened: Tab, page: Page) -> None:
    opened.open(page.address)

    def trail(places: list[tuple[float, float]], deviation: float = 0.1) -> Any:
        script = """([places, deviation]) => import("./frames.js").then(({ follow }) => {
          const trail = [];
          for (const [x, y] of places) follow({ components: Float64Array.of(1, x, y, deviation, deviation, 0), trail });
          return trail;
        })"""
        return np.reshape(opened.page.evaluate(script, [places, deviation]), (-1, 2)).tolist()

    way = [(float(x), 0.0) for x in range(12)]
    assert trail([(-90.0, 40.0), *way]) == [list(each) for each in way]
    assert trail([(0.0, 0.0), (0.01, 0.0), (0.0, 0.02), (0.03, 0.0)], 1.0) == [[0, 0], [0.03, 0]]
    assert len(trail([(float(x), 0.0) for x in range(100)])) == 40
    for place in way:
        put(page, at(*place, "mower", 0.05))
        opened.wait_for(f"[...{ENTITIES}.values()][0]?.components[1] === {place[0]}")
    look(opened, -10, -10, 40)
    between = brightness(opened, (2.5, 0), (4.5, 0), (2.5, 3))
    assert min(between[:2]) > 100 > between[2] + 50


def test_one_finger_moves_the_map_or_draws_and_two_zoom(opened: Tab, page: Page) -> None:
    put(page, at(0, 0, "mower"))
    opened.open(page.address)
    opened.wait_for(f"{ENTITIES}.size === 1 && beliefstream.map.fitted")
    look(opened, -20, -20, 20)
    session = opened.page.context.new_cdp_session(opened.page)

    def fingers(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    view = "[beliefstream.map.left, beliefstream.map.bottom, beliefstream.map.scale]"

    fingers("touchStart", (500, 300))
    fingers("touchMove", (560, 340))
    fingers("touchEnd")
    opened.wait_until(lambda: opened.value(view) == pytest.approx([-23, -18, 20]), lambda: opened.value(view))

    place = "((x, y) => beliefstream.map.at({ clientX: x, clientY: y }))(500, 400)"
    before = opened.value(place)
    fingers("touchStart", (450, 400))
    fingers("touchStart", (450, 400), (550, 400))
    fingers("touchMove", (400, 400), (600, 400))
    fingers("touchEnd")
    opened.wait_for("beliefstream.map.scale > 39")
    assert opened.value("beliefstream.map.scale") == pytest.approx(40)
    assert opened.value(place) == pytest.approx(before)

    opened.page.click("#draw")
    fingers("touchStart", (450, 400))
    fingers("touchMove", (480, 400))
    fingers("touchStart", (480, 400), (600, 400))  # a second finger: not a prior, but a zoom
    fingers("touchMove", (480, 400), (720, 400))
    fingers("touchEnd")
    opened.wait_for("beliefstream.map.scale > 79")
    assert opened.value("beliefstream.map.ellipses") == []
    assert opened.page.get_attribute("#draw", "aria-pressed") == "true"
    fingers("touchStart", (450, 400))
    fingers("touchMove", (490, 440))
    fingers("touchEnd")
    opened.wait_for("document.querySelector('#draw').getAttribute('aria-pressed') === 'false'")
    (ellipse,) = opened.value("beliefstream.map.ellipses")
    assert (ellipse["rx"], ellipse["ry"]) == pytest.approx((0.5, 0.5))

    x, y = opened.value(
        "(({ map }) => { const b = map.canvas.getBoundingClientRect(); map.left = map.bottom = -5;"
        " return [b.left + map.x(0) + 18, b.top + map.y(0)]; })(beliefstream)"
    )
    fingers("touchStart", (x, y))
    fingers("touchMove", (x + 4, y))  # a finger is never quite still
    fingers("touchEnd")
    opened.wait_for("beliefstream.map.selected?.name === 'mower'")
