"""The page in Chromium."""

from __future__ import annotations

import numpy as np
import pytest

from beliefstream.schemas import (
    DeadLetter,
    Mixture,
    Reason,
)
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.live import history
from beliefstream.streams.live.access import Access
from tests.brokers import EmbeddedNode
from tests.streams.client.topics import posterior
from tests.streams.live.browsers import ENTITIES, Tab, show
from tests.streams.live.pages import Page, served

TOKEN = "a-token-of-the-test-0123"
HOSTILE = "<img src=x onerror=\"document.title='hacked'\">"
SOCKETS = """sockets = [];
WebSocket = class extends WebSocket { constructor(address) { super(address); sockets.push(this); } };"""
NARROW = ((1.0, 0.0), (0.0, 1.0))
TWO_MODES = Mixture(weights=(0.5, 0.5), means=((-20.0, 0.0), (20.0, 0.0)), covariances=(NARROW, NARROW))


def test_the_page_loads_under_its_policy_and_entities_move(opened: Tab, page: Page) -> None:
    page.put(posterior(1, mixture=Mixture.gaussian((0, 0), 1)))
    opened.open(page.address)
    opened.wait_for(f"{ENTITIES}.size === 1")
    page.put(posterior(2, mixture=Mixture.gaussian((5, 3), 1)))
    opened.wait_for(f"[...{ENTITIES}.values()][0].components[1] === 5")
    assert opened.value(f"[...{ENTITIES}.values()][0].trail") == [0, 0, 5, 3]


def test_two_modes_are_seen_as_two(opened: Tab, page: Page) -> None:
    page.put(posterior(1, mixture=TWO_MODES))
    opened.open(page.address)

    def brightness() -> list[float]:
        pixels = opened.pixels([(x, 0.3) for x in (-20, 0, 20)])
        return [sum(colours) * opacity / 255 for *colours, opacity in pixels]

    opened.wait_until(lambda: all(each > 50 for each in brightness()[::2]), brightness)
    left, middle, right = brightness()
    assert min(left, right) > 2 * middle + 50


def test_the_contours_of_the_selected_entity_hold_what_they_say(opened: Tab, page: Page) -> None:
    """Of one Gaussian they are the ellipses of 50 and 90 %; of two modes there are two closed curves."""
    page.put(posterior(1, mixture=TWO_MODES))
    opened.open(page.address)
    contours = (
        'import("./contours.js").then((all) => all.contours(Float64Array.from(components), [0.5, 0.9]))'
    )
    script = f"(components) => {contours}"
    half, most = opened.page.evaluate(script, [1, 0, 0, 2, 1, 0])
    for segments, share in ((half, 0.5), (most, 0.9)):
        points = np.reshape(segments, (-1, 2)) / (2, 1)
        np.testing.assert_allclose(np.linalg.norm(points, axis=1), np.sqrt(-2 * np.log(1 - share)), rtol=0.03)
    both = np.reshape(opened.page.evaluate(script, [0.5, -20, 0, 1, 1, 0, 0.5, 20, 0, 1, 1, 0])[1], (-1, 2))
    assert np.abs(both[:, 0]).min() > 15
    assert set(np.sign(both[:, 0])) == {-1, 1}


def test_a_selected_entity_is_told_with_bands(opened: Tab, page: Page) -> None:
    page.put(*(posterior(number, mixture=Mixture.gaussian((number, 0), 2)) for number in range(1, 5)))
    show(opened, page.address)
    opened.wait_for("beliefstream.series.samples.length >= 1")

    def row_of_x() -> list[str]:
        return [str(cell) for cell in opened.page.locator("#now tbody tr").first.inner_text().split("\t")]

    opened.wait_until(lambda: float(row_of_x()[3]) == pytest.approx(4, abs=1e-3), row_of_x)  # the last
    assert row_of_x()[0] == "x (m)"
    low, *_, high = map(float, row_of_x()[1:])
    assert (high - low) == pytest.approx(2 * 2 * 1.645, abs=0.01)
    assert "transformer" in opened.page.inner_text("#facts")


def test_a_belief_outside_what_its_likelihood_was_trained_on_says_so(opened: Tab, page: Page) -> None:
    quality = posterior(1).quality.model_copy(update={"likelihood": "learned", "outside_training": 0.25})
    page.put(posterior(1, quality=quality))
    show(opened, page.address)
    expected = "learned, outside its training by 0.25 widths: do not rely on this belief"
    opened.wait_for(f"document.querySelector('#facts').textContent.includes({expected!r})")


def test_the_list_is_searched(opened: Tab, page: Page) -> None:
    page.put(*(posterior(1, name) for name in ("mower-1", "mower-2", "ship")))
    opened.open(page.address)
    opened.page.get_by_role("searchbox").fill("MOW")
    opened.wait_for("document.querySelectorAll('#list button').length === 2")


def test_the_last_minutes_are_scrolled_back_by_keyboard(
    opened: Tab, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has moved since is seen where it was, what has left is seen again; and then now again."""
    monkeypatch.setattr(history, "INTERVAL", 0.0)
    first = f"[...{ENTITIES}.values()].find((each) => each.name === 'mower').components[1]"
    opened.open(page.address)
    page.put(posterior(1, mixture=Mixture.gaussian((0, 0), 1)))
    opened.wait_for(f"{ENTITIES}.size === 1 && {first} === 0")
    since = opened.value("Date.now() / 1000")
    opened.wait_for(f"beliefstream.past.now > {since} + 6")  # a step of the slider is five seconds
    page.put(posterior(2, mixture=Mixture.gaussian((7, 3), 1)), posterior(1, "late"))
    opened.wait_for(f"{ENTITIES}.size === 2 && {first} === 7")
    opened.page.focus("#time")
    opened.page.keyboard.press("ArrowLeft")
    opened.wait_for(f"{ENTITIES}.size === 1 && {first} === 0")
    assert opened.page.inner_text("#shown").startswith("−0:")
    page.put(posterior(3, mixture=Mixture.gaussian((9, 3), 1)))  # it stays where it was scrolled to
    opened.wait_for("beliefstream.past.now - beliefstream.past.moment > 6")
    assert opened.value(first) == 0
    opened.page.focus("#canvas")
    opened.page.keyboard.press("l")
    opened.wait_for(f"{ENTITIES}.size === 2 && {first} === 9")
    assert opened.page.inner_text("#shown") == "live"


def test_hostile_text_is_shown_as_text(opened: Tab, page: Page) -> None:
    page.put(posterior(1, "__proto__", model="a:b"))
    hostile = HOSTILE.replace('"', '\\"')
    for offset, entity in enumerate((hostile, "__proto__")):
        letter = DeadLetter(
            reason=Reason.unknown_sensor,
            detail=HOSTILE,
            topic="observations",
            partition=0,
            offset=offset,
            value=f'{{"entity": "{entity}", "sensor": "<b>bold</b>"}}'.encode(),
        )
        page.raw.send(page.topics.dead_letters, value=letter.value, headers=letter.headers())
    page.raw.flush()
    show(opened, page.address, "__proto__")
    for table, count in (("#letters", 2), ("#own-letters", 1)):
        opened.wait_for(f"document.querySelectorAll('{table} tbody tr').length === {count}")
        assert HOSTILE in opened.page.inner_text(table)
    assert opened.page.locator("img").count() == 0
    assert opened.page.title() == "Beliefstream: live"


def test_the_map_is_used_by_keyboard(opened: Tab, page: Page) -> None:
    page.put(posterior(1))
    opened.open(page.address)
    opened.wait_for("beliefstream.map.fitted")
    opened.page.focus("#canvas")
    opened.page.keyboard.press("ArrowLeft")  # from now on no frame fits the map to what there is
    before = opened.value("[beliefstream.map.left, beliefstream.map.scale]")
    opened.page.keyboard.press("ArrowRight")
    opened.page.keyboard.press("+")
    after = opened.value("[beliefstream.map.left, beliefstream.map.scale]")
    assert after[0] > before[0]
    assert after[1] == pytest.approx(1.25 * before[1])
    opened.page.keyboard.press("p")
    assert opened.page.get_attribute("#draw", "aria-pressed") == "true"
    opened.page.keyboard.press("Escape")
    assert opened.page.get_attribute("#draw", "aria-pressed") == "false"


@pytest.mark.parametrize("path", ["/", "/live/"])
def test_the_token_opens_the_page(
    opened: Tab, embedded_broker: EmbeddedNode, topics: TopicNames, path: str
) -> None:
    """Also where a proxy serves it under a path; there the token is one to look only. Later the session ends."""
    access = Access(read_token=TOKEN) if path != "/" else Access(TOKEN)
    with served(embedded_broker.bootstrap_servers, topics, access, path=path) as page:
        page.put(posterior(1))
        opened.page.add_init_script(SOCKETS)
        opened.open(page.address)
        opened.page.get_by_label("Token").fill(TOKEN)
        opened.page.get_by_role("button").click()
        opened.page.wait_for_selector("#canvas")
        opened.page.wait_for_load_state()
        opened.wait_for(f"{ENTITIES}.size === 1")
        assert opened.page.is_visible("#draw") == (path == "/")  # who may only look draws no prior
        opened.page.context.clear_cookies()
        opened.value("sockets.forEach((each) => each.close())")
        opened.page.get_by_label("Token").wait_for()  # without a session the page shows the login again
        assert all("401" in each for each in opened.complaints), opened.complaints
        opened.complaints.clear()
