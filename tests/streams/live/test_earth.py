"""The map where its plane lies on the earth: degrees, and metres from an origin that sensors name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from beliefstream.schemas import Coordinate, Geodetic, GeodeticSensor, Mixture, PositionSensor, Posterior
from beliefstream.streams.live.beliefs import Beliefs, degree_plane, earth_note
from beliefstream.streams.live.posteriors import plain
from tests.streams.client.topics import posterior
from tests.streams.live.pages import Page, watched
from tests.streams.live.tables import take

NAMES = ("latitude", "longitude")
HELSINKI = Mixture.gaussian((60.0, 25.0), (0.1, 0.2))
ORIGIN = Geodetic(latitude=50.75, longitude=-1.25, altitude=20.0)


def on_earth(names: tuple[str, ...] = NAMES, unit: str = "deg", **changes: Any) -> Posterior:
    coordinates = tuple(Coordinate(name=name, unit=unit) for name in names)
    return posterior(1, coordinates=coordinates, mixture=HELSINKI, **changes)


def receiver(name: str = "gps", origin: Geodetic = ORIGIN, **changes: Any) -> GeodeticSensor:
    return GeodeticSensor(sensor=name, origin=origin, standard_deviation=3.0, **changes)


def test_longitude_is_to_the_right_and_shorter_by_the_cosine_of_the_latitude(page: Page) -> None:
    sensor = PositionSensor(sensor="buoy", coordinates=NAMES, standard_deviation=1.0)
    page.raw.send(page.topics.sensors, key=b"buoy", value=sensor.to_json())
    page.put(on_earth())
    with watched(page) as browser:
        browser.wait_for_entities("mower")
        # at 60 degrees a degree of longitude is half as long
        np.testing.assert_allclose(
            browser.entities["mower"].components, [[1, 12.5, 60, 0.25 * 0.04, 0, 0.01]], rtol=1e-6
        )
        assert [each["name"] for each in browser.notes["plane"]] == ["longitude", "latitude"]
        assert browser.notes["earth"] == {"kind": "degrees", "stretch": pytest.approx(0.5)}


@pytest.mark.parametrize(
    ("names", "unit", "expected"),
    [
        (("lat", "Lon"), "°", ("Lon", "lat")),
        (NAMES, "rad", None),
        (NAMES, "m", None),
        (("latitude", "x"), "deg", None),
    ],
)
def test_only_latitude_and_longitude_in_degrees_are_degrees(
    names: tuple[str, ...], unit: str, expected: tuple[str, str] | None
) -> None:
    assert degree_plane(plain(on_earth(names, unit))) == expected
    table = Beliefs()
    take(table, on_earth(names, unit))
    assert table.stretch == (pytest.approx(0.5) if expected else 1.0)


def test_the_origin_is_that_of_the_geodetic_sensors_of_the_plane() -> None:
    expected = {"kind": "tangent", "latitude": 50.75, "longitude": -1.25, "altitude": 20.0}
    other = receiver("other", Geodetic(latitude=51.0, longitude=0.0))
    assert earth_note(("x", "y"), 1.0, [receiver(), receiver("again")]) == expected
    assert earth_note(("x", "y"), 1.0, [receiver(), other]) is None  # they contradict each other
    assert earth_note(("y", "x"), 1.0, [receiver()]) is None
    assert earth_note(("x", "y"), 1.0, []) is None
    assert earth_note(None, 1.0, [receiver()]) is None
