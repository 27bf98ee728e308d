"""The page in Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from playwright.sync_api import Browser

from beliefstream.schemas import (
    Coordinate,
    DeadLetter,
    Mixture,
    Model,
    PositionSensor,
    Prior,
    RandomWalk,
    RangeSensor,
    Reason,
    parse,
)
from beliefstream.schemas.sensor_health import Verdict
from beliefstream.streams.client.sensor_health import read_sensor_health
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.live import history
from beliefstream.streams.live.access import Access
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.client.topics import posterior, records
from tests.streams.live.browsers import Tab, chromium, tab
from tests.streams.live.pages import Page, served
from tests.streams.workers import stream

TOKEN = "a-token-of-the-test-0123"
HOSTILE = "<img src=x onerror=\"document.title='hacked'\">"
NARROW = ((1.0, 0.0), (0.0, 1.0))
TWO_MODES = Mixture(weights=(0.5, 0.5), means=((-20.0, 0.0), (20.0, 0.0)), covariances=(NARROW, NARROW))
ENTITIES = "beliefstream.world.entities"
COLOURS = """(places) => {
  const { map } = beliefstream, dots = devicePixelRatio, { width, height } = map.canvas;
  const { data } = map.canvas.getContext("2d").getImageData(0, 0, width, height);
  return places.map(([x, y]) => {
    const at = 4 * (Math.round(map.y(y) * dots) * width + Math.round(map.x(x) * dots));
    return [...data.slice(at, at + 3)];
  });
}"""
BRIGHTNESS = """(places) => {
  const { map } = beliefstream, dots = devicePixelRatio, { width, height } = map.canvas;
  const { data } = map.canvas.getContext("2d").getImageData(0, 0, width, height);
  return places.map(([x, y]) => {
    const at = 4 * (Math.round(map.y(y) * dots) * width + Math.round(map.x(x) * dots));
    return data[at + 3] / 255 * (data[at] + data[at + 1] + data[at + 2]);
  });
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def opened(browser: Browser) -> Iterator[Tab]:
    """A tab that in the end has complained about nothing."""
    with tab(browser) as found:
        yield found
        assert found.complaints == []


def show(opened: Tab, page: Page, name: str = "mower") -> None:
    """Open the page and select an entity."""
    opened.open(page.address)
    opened.wait_for(f"{ENTITIES}.size > 0")
    opened.page.get_by_role("button", name=name, exact=True).first.click()
    opened.wait_for(f"document.querySelector('#who').textContent === {name!r}")


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
    opened.wait_for("beliefstream.world.drawn > 2")
    left, middle, right = opened.page.evaluate(BRIGHTNESS, [[x, 0.3] for x in (-20, 0, 20)])
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
    show(opened, page)
    opened.wait_for("beliefstream.series.samples.length >= 1")
    rows = opened.page.locator("#now tbody tr").all_inner_texts()
    assert rows[0].split("\t")[0] == "x (m)"
    low, _, median, _, high = map(float, rows[0].split("\t")[1:])
    assert median == pytest.approx(4, abs=1e-3)
    assert (high - low) == pytest.approx(2 * 2 * 1.645, abs=0.01)
    assert "transformer" in opened.page.inner_text("#facts")


def test_the_list_is_searched(opened: Tab, page: Page) -> None:
    page.put(*(posterior(1, name) for name in ("mower-1", "mower-2", "ship")))
    opened.open(page.address)
    opened.page.get_by_role("searchbox").fill("MOW")
    opened.wait_for("document.querySelectorAll('#list button').length === 2")


def test_a_prior_drawn_by_mouse_arrives(opened: Tab, page: Page, embedded_broker: EmbeddedNode) -> None:
    page.put(posterior(1, mixture=TWO_MODES))
    show(opened, page)
    opened.page.select_option("select[name=mode]", "product")
    opened.page.click("#draw")
    box = opened.page.locator("#canvas").bounding_box()
    assert box is not None
    x, y = box["x"] + 200, box["y"] + 300
    centre, corner = (
        opened.value(f"beliefstream.map.at({{clientX: {a}, clientY: {b}}})")
        for a, b in ((x, y), (x + 60, y - 30))
    )
    opened.page.mouse.move(x, y)
    opened.page.mouse.down()
    opened.page.mouse.move(x + 60, y - 30, steps=4)
    opened.page.mouse.up()
    opened.page.click("#send")
    (record,) = records(embedded_broker, page.topics.priors, 1)
    prior = parse(Prior, record.value)
    assert (prior.entity, prior.mode, prior.coordinates) == ("mower", "product", ("x", "y"))
    np.testing.assert_allclose(prior.mixture.mean(), centre, rtol=1e-5)
    widths = np.sqrt(-2 * np.log(0.1)) * prior.mixture.standard_deviations()
    np.testing.assert_allclose(widths, np.abs(np.subtract(corner, centre)), rtol=1e-5)
    opened.wait_for("document.querySelector('#answer').textContent.includes('waiting')")
    page.put(posterior(2, prior_sequence=1))
    opened.wait_for("document.querySelector('#answer').textContent.startsWith('Applied')")


def test_a_prior_changes_the_belief(
    opened: Tab, embedded_broker: EmbeddedNode, names: Names, tmp_path: Path
) -> None:
    """With a real worker: the page shows the posterior that has taken the prior in."""
    with stream(embedded_broker, names, tmp_path) as messages:
        messages.define(
            [
                PositionSensor(sensor="gps", standard_deviation=3.0),
                Model(
                    entity="*",
                    name="walker",
                    motion=RandomWalk(spectral_density=1.0),
                    coordinates=(Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
                    prior=Mixture.gaussian((0, 0), 20),
                ),
            ]
        )
        messages.worker().start()
        with served(embedded_broker.bootstrap_servers, names.topics) as page:
            messages.observations.send("mower", "gps", (1.0, 2.0))
            show(opened, page)
            opened.page.select_option("select[name=when]", "newest")
            draw(opened, (30.0, -20.0), 2.0)
            opened.page.click("#send")
            opened.wait_for("document.querySelector('#answer').textContent.startsWith('Applied')")
            # the observation of that time counts after the prior, so the belief is between both
            share = (variance := (2 / np.sqrt(-2 * np.log(0.1))) ** 2) / (variance + 3.0**2)
            expected = (1 - share) * np.array([30, -20]) + share * np.array([1, 2])
            opened.wait_for(f"Math.abs(beliefstream.map.selected.components[1] - {expected[0]}) < 0.1")
            shown = opened.value("[...beliefstream.map.selected.components]")
            np.testing.assert_allclose(shown[1:3], expected, atol=0.1)


def test_sensors_are_shown_where_they_stand_with_their_verdicts(
    opened: Tab, embedded_broker: EmbeddedNode, names: Names, tmp_path: Path
) -> None:
    """With a real worker: of three beacons about one entity that stands still, one reports two metres too much."""
    places = {"bent": (40.0, 0.0), "east": (-40.0, 0.0), "north": (0.0, 40.0)}
    with stream(embedded_broker, names, tmp_path) as messages:
        messages.define(
            [
                *(
                    RangeSensor(sensor=name, position=place, standard_deviation=1.0)
                    for name, place in places.items()
                ),
                PositionSensor(sensor="gps", standard_deviation=1.0),
                still_model(),
            ]
        )
        messages.worker(health_window=512.0).start()
        noise = np.random.default_rng(1).normal(size=(240, 5))
        for number, errors in enumerate(noise):
            now = float(1_700_000_000 + number)
            for (name, place), error in zip(places.items(), errors, strict=False):
                value = np.linalg.norm(place) + error + 2.0 * (name == "bent")
                messages.observations.send("mower", name, float(value), time=now)
            messages.observations.send("mower", "gps", tuple(errors[3:].tolist()), time=now)
        with served(embedded_broker.bootstrap_servers, names.topics) as page:
            opened.open(page.address)
            opened.wait_for("beliefstream.world.verdicts.bent?.verdict === 'biased'", 60)
            opened.wait_for("document.querySelector('#ill-count').textContent !== '0'")
            opened.wait_for("document.querySelector('#workers').textContent === '1'")
            opened.wait_for("document.querySelector('#lag').textContent === '0'")
            first, *_ = opened.page.locator("#sensors tbody tr").all_inner_texts()
            cells = [cell.strip() for cell in first.split("\t")]
            assert cells[:2] == ["bent", "biased"]
            known = read_sensor_health(embedded_broker.bootstrap_servers, names.topics.sensor_health)
            expected = known["bent"].assessment.channels[0].bias
            assert 0.5 < expected < 2.5  # a part of it is in the belief
            assert float(cells[3].split("±")[0]) == pytest.approx(expected, rel=0.1)
            colours = opened.page.evaluate(COLOURS, list(places.values()))
            assert colours[0] == [0xE6, 0x9F, 0x00]
            assert [0xE6, 0x9F, 0x00] not in colours[1:]


def still_model() -> Model:
    return Model(
        entity="*",
        name="still",
        motion=RandomWalk(spectral_density=1e-6),
        coordinates=(Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
        prior=Mixture.gaussian((0, 0), 20),
        live_time=False,
    )


def test_every_verdict_has_a_shape_of_its_own(opened: Tab, page: Page) -> None:
    """Whoever sees no colours tells them apart: no two marks cover the same pixels."""
    opened.open(page.address)
    script = """import("./sensors.js").then(({ MARKS, mark }) => Object.keys(MARKS).map((verdict) => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 16, height: 16 });
      const pen = canvas.getContext("2d");
      mark(pen, 8, 8, verdict);
      return [verdict, [...pen.getImageData(0, 0, 16, 16).data].filter((_, i) => i % 4 === 3)];
    }))"""
    covered = {verdict: np.array(alphas) > 100 for verdict, alphas in opened.page.evaluate(f"() => {script}")}
    assert set(covered) == set(get_args(Verdict))
    for one, other in combinations(covered, 2):
        assert np.count_nonzero(covered[one] != covered[other]) >= 16, (one, other)


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


def test_exact_numbers_of_several_ellipses_are_sent(
    opened: Tab, page: Page, embedded_broker: EmbeddedNode
) -> None:
    page.put(posterior(1))
    show(opened, page)
    for number in (1, 2):
        opened.page.click("#add")
        for name, value in (
            ("x", 10 * number),
            ("y", 5),
            ("rx", 3),
            ("ry", 2),
            ("angle", 90),
            ("weight", number),
        ):
            opened.page.get_by_label(f"{name} of ellipse {number}", exact=True).fill(str(value))
    opened.page.click("#send")
    (record,) = records(embedded_broker, page.topics.priors, 1)
    mixture = parse(Prior, record.value).mixture
    np.testing.assert_allclose(mixture.weights, [1 / 3, 2 / 3])
    np.testing.assert_allclose(mixture.means, [[10, 5], [20, 5]])
    scale = -2 * np.log(0.1)
    np.testing.assert_allclose(mixture.covariances, [np.diag([4, 9]) / scale] * 2, atol=1e-12)


def test_hostile_text_is_shown_as_text(opened: Tab, page: Page) -> None:
    page.put(posterior(1, "__proto__", model="a:b"))
    value = b'{"entity": "' + HOSTILE.replace('"', '\\"').encode() + b'", "sensor": "<b>bold</b>"}'
    letter = DeadLetter(
        reason=Reason.unknown_sensor, detail=HOSTILE, topic="observations", partition=0, offset=1, value=value
    )
    page.raw.send(page.topics.dead_letters, value=letter.value, headers=letter.headers())
    page.raw.flush()
    show(opened, page, "__proto__")
    opened.wait_for("document.querySelectorAll('#letters tbody tr').length === 1")
    assert HOSTILE in opened.page.inner_text("#letters")
    assert opened.page.locator("img").count() == 0
    assert opened.page.title() == "Beliefstream: live"


def test_the_map_is_used_by_keyboard(opened: Tab, page: Page) -> None:
    page.put(posterior(1))
    opened.open(page.address)
    opened.wait_for("beliefstream.world.drawn > 1")
    opened.page.focus("#canvas")
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
    """Also where a proxy serves it under a path."""
    with served(embedded_broker.bootstrap_servers, topics, Access(TOKEN), path=path) as page:
        page.put(posterior(1))
        opened.open(page.address)
        opened.page.get_by_label("Token").fill(TOKEN)
        opened.page.get_by_role("button").click()
        opened.page.wait_for_selector("#canvas")
        opened.page.wait_for_load_state()
        opened.wait_for(f"{ENTITIES}.size === 1")
