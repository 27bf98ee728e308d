"""The map on the earth, in Chromium: its grid, held against pymap3d, and a prior in degrees."""

from __future__ import annotations

import numpy as np
import pymap3d
import pytest

from beliefstream.schemas import Prior, parse
from tests.brokers import EmbeddedNode
from tests.streams.client.topics import records
from tests.streams.live.browsers import ENTITIES, Tab, add, show
from tests.streams.live.pages import Page
from tests.streams.live.test_earth import HELSINKI, ORIGIN, on_earth, receiver

PLACES = [(50.75, -1.25), (51.2, -0.4), (50.0, -3.0), (49.1, 2.0)]
TEXTS = """(draw) => {
  const { map } = beliefstream, texts = [], { fillText } = map.pen;
  map.pen.fillText = (text, x, y) => texts.push([text, x, y]);
  try { map.draw(); } finally { delete map.pen.fillText; }
  return texts;
}"""


def test_degrees_and_metres_agree_with_pymap3d(opened: Tab, page: Page) -> None:
    opened.open(page.address)
    script = """import("./earth.js").then(({ Tangent }) => {
      const tangent = new Tangent(origin);
      return places.map(([a, b]) => [tangent.toPlane(a, b), tangent.toDegrees(...tangent.toPlane(a, b))]);
    })"""
    found = opened.page.evaluate(f"([origin, places]) => {script}", [ORIGIN.model_dump(), PLACES])
    for (latitude, longitude), (metres, degrees) in zip(PLACES, found, strict=True):
        east, north, _ = pymap3d.geodetic2enu(
            latitude, longitude, 20.0, ORIGIN.latitude, ORIGIN.longitude, 20.0
        )
        np.testing.assert_allclose(metres, (east, north), atol=1e-3)
        np.testing.assert_allclose(degrees, (latitude, longitude), atol=1e-6)


def test_metres_from_an_origin_have_a_grid_of_degrees(opened: Tab, page: Page) -> None:
    """Each label is where its meridian or parallel is."""
    page.raw.send(page.topics.sensors, key=b"gps", value=receiver().to_json())
    page.put(on_earth(("x", "y"), "m"))
    opened.open(page.address)
    opened.wait_for(f"{ENTITIES}.size === 1 && beliefstream.world.earth?.kind === 'tangent'")
    opened.value("Object.assign(beliefstream.map, { touched: true, fitted: true, scale: 0.005 })")
    opened.value("Object.assign(beliefstream.map, { left: -60000, bottom: -40000 })")
    labels = [each for each in opened.page.evaluate(TEXTS) if "°" in each[0]]
    parallels = [each for each in labels if each[0][-1] in "NS"]
    assert len(parallels) >= 3
    assert len(labels) - len(parallels) >= 3
    for text, _, y in parallels:
        latitude = float(text.split("°")[0])
        west, _, _ = pymap3d.enu2geodetic(-60_000.0, 0.0, 0.0, ORIGIN.latitude, ORIGIN.longitude, 20.0)
        assert west == pytest.approx(50.75, abs=0.02)
        _, north, _ = pymap3d.geodetic2enu(latitude, -2.1, 20.0, ORIGIN.latitude, ORIGIN.longitude, 20.0)
        assert opened.value(f"beliefstream.map.y({north})") == pytest.approx(y + 3, abs=2)


def test_a_prior_in_degrees_is_sent_in_degrees(
    opened: Tab, page: Page, embedded_broker: EmbeddedNode
) -> None:
    page.put(on_earth())
    show(opened, page.address)
    add(opened)
    values = (("x", 25.0), ("y", 60.0), ("rx", 0.3), ("ry", 0.1), ("angle", 30.0), ("weight", 1.0))
    for name, value in values:
        opened.page.get_by_label(f"{name} of ellipse 1", exact=True).fill(str(value))
    opened.page.click("#send")
    (record,) = records(embedded_broker, page.topics.priors, 1)
    prior = parse(Prior, record.value)
    assert prior.coordinates == ("longitude", "latitude")
    np.testing.assert_allclose(prior.mixture.mean(), (25.0, 60.0))
    # half-widths are in degrees of latitude along turned axes; longitude has twice as many at 60 degrees
    turn = np.array([[np.cos(np.pi / 6), -np.sin(np.pi / 6)], [np.sin(np.pi / 6), np.cos(np.pi / 6)]])
    square = turn @ np.diag([0.3**2, 0.1**2]) @ turn.T / (-2 * np.log(0.1))
    np.testing.assert_allclose(
        prior.mixture.covariances[0], np.diag([2, 1]) @ square @ np.diag([2, 1]), rtol=1e-5
    )


def test_the_grid_of_degrees_has_the_labels_of_the_place(opened: Tab, page: Page) -> None:
    page.put(on_earth())
    opened.open(page.address)
    opened.wait_for(f"{ENTITIES}.size === 1")
    labels = [each for each in opened.page.evaluate(TEXTS) if "°" in each[0]]
    east = {float(text.split("°")[0]): x - 3 for text, x, _ in labels if text.endswith("° E")}
    north = {float(text.split("°")[0]): y + 3 for text, _, y in labels if text.endswith("° N")}
    assert len(east) >= 2
    assert len(north) >= 2
    across, up = (
        abs((pixels[1] - pixels[0]) / (places[1] - places[0]))
        for places, pixels in ((list(shown), list(shown.values())) for shown in (east, north))
    )
    assert across / up == pytest.approx(np.cos(np.radians(HELSINKI.mean()[0])), rel=1e-3)
