"""Coastlines, tiles and floor plans under the beliefs, in Chromium."""

from __future__ import annotations

import io
import math
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from beliefstream.schemas import Mixture
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.live.layers import FloorPlan, Layers
from tests.brokers import EmbeddedNode
from tests.streams.client.topics import posterior
from tests.streams.live.browsers import ENTITIES, Tab
from tests.streams.live.pages import Page, served
from tests.streams.live.test_earth import on_earth, receiver
from tests.streams.live.test_map_browser import TEXTS, brightness, look


def test_land_and_sea_are_told_apart_in_degrees_on_both_sides_of_the_date_line(
    opened: Tab, page: Page
) -> None:
    page.put(on_earth())
    opened.open(page.address)
    opened.wait_for(f"{ENTITIES}.size === 1")
    opened.wait_for("beliefstream.map.background.placed !== null")
    stretch = 0.5  # a degree of longitude at Helsinki
    places = {  # longitude and latitude
        "Tampere": ((23.8, 61.5), True),
        "the Gulf of Finland": ((26.53, 59.93), False),
        "Lesotho, an enclave": ((28.4, -29.6), True),
        "Chukotka in the east": ((177.0, 67.5), True),
        "Chukotka in the west, further eastwards": ((360 - 174.0, 67.0), True),
        "the Bering Sea, further eastwards": ((360 - 178.03, 58.03), False),
        "Antarctica": ((60.0, -80.0), True),
        "the South Pacific": ((-120.03, -40.03), False),
    }
    seen = {}
    for name, ((longitude, latitude), _) in places.items():
        look(opened, stretch * longitude - 1.01, latitude - 1.013, 300)
        seen[name] = brightness(opened, (stretch * longitude, latitude))[0] > 20
    assert seen == {name: land for name, (_, land) in places.items()}
    assert "Natural Earth, 1:10 000 000" in [text for text, _, _ in opened.value(f"({TEXTS})()")]
    look(opened, 12.5, 60, 1e5)  # so near that the coastline would be a guess
    assert opened.value("beliefstream.map.background.said") == ""


def test_land_and_sea_are_told_apart_in_metres_from_an_origin(opened: Tab, page: Page) -> None:
    page.raw.send(page.topics.sensors, key=b"gps", value=receiver().to_json())
    page.put(on_earth(("x", "y"), "m"))
    opened.open(page.address)
    opened.wait_for("beliefstream.map.background.placed !== null")
    seen = []
    for latitude, longitude in (
        (50.673, -1.313),
        (50.513, -1.313),
        (51.513, -0.413),
        (45.013, -5.013),
        (40.013, -4.013),
    ):
        to_plane = f"new all.Tangent(beliefstream.world.earth).toPlane({latitude}, {longitude})"
        x, y = opened.value(f"import('./earth.js').then((all) => {to_plane})")
        look(opened, x - 5005, y - 5010, 0.04)
        seen.append(brightness(opened, (x, y))[0] > 20)
    assert seen == [True, False, True, False, True]  # the Isle of Wight, the Channel, London, Biscay, Spain


class TileServer(ThreadingHTTPServer):
    """Serves red for one tile, and blue for all others."""

    red = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: dict[str, str | None] = {}  # the page that was named with each path

    @property
    def template(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{{z}}/{{x}}/{{y}}.png"


class _Handler(BaseHTTPRequestHandler):
    server: TileServer

    def do_GET(self) -> None:
        self.server.asked[self.path] = self.headers["Referer"]
        picture = io.BytesIO()
        colour = (1.0, 0.0, 0.0) if self.path == self.server.red else (0.0, 0.0, 1.0)
        matplotlib.image.imsave(picture, np.full((256, 256, 3), colour), format="png")
        self.send_response(200)
        self.send_header("Content-Type", "image/png")
        self.end_headers()
        self.wfile.write(picture.getvalue())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def tile_server() -> Iterator[TileServer]:
    with TileServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def corner(x: int, y: int, z: int) -> tuple[float, float]:
    """Longitude and latitude of the upper left corner of a tile, as Web Mercator defines it."""
    latitude = math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * y / 2**z))))
    return 360 * x / 2**z - 180, latitude


@pytest.mark.parametrize("z", [3, 11])
def test_tiles_lie_where_web_mercator_has_them(
    opened: Tab, embedded_broker: EmbeddedNode, topics: TopicNames, z: int
) -> None:
    """And the page contacts their host alone, which the policy allows."""
    place = (25.0, 60.0)
    with tile_server() as tiles:
        layers = Layers(tiles.template, "© Example")
        with served(embedded_broker.bootstrap_servers, topics, layers=layers) as page:
            n, share = 2**z, math.asinh(math.tan(math.radians(place[1]))) / (2 * math.pi)
            x, y = int(n * (place[0] / 360 + 0.5)), int(n * (0.5 - share))
            tiles.red = f"/{z}/{x}/{y}.png"
            page.put(on_earth())
            opened.open(page.address)
            opened.wait_for(f"{ENTITIES}.size === 1 && beliefstream.map.background.tiles !== null")
            assert opened.value("beliefstream.map.background.loading") is None  # no land below tiles
            stretch = opened.value("beliefstream.world.earth.stretch")
            scale = (
                256 * n / 360 / stretch
            )  # pixels a degree of latitude, for a tile to have 256 pixels from west to east
            (west, north), (east, south) = corner(x, y, z), corner(x + 1, y + 1, z)
            middle = (stretch * (west + east) / 2, (north + south) / 2)
            look(opened, middle[0] - 395 / scale, middle[1] - 400 / scale, scale)
            opened.wait_until(lambda: tiles.red in tiles.asked, lambda: sorted(tiles.asked))
            d = 6 / scale
            inside = [
                (stretch * e + s * d, v + t * d)
                for e, s in ((west, 1), (east, -1))
                for v, t in ((north, -1), (south, 1))
            ]
            outside = [
                (stretch * e - s * d, v - t * d)
                for e, s in ((west, 1), (east, -1))
                for v, t in ((north, -1), (south, 1))
            ]

            def red(places: list[tuple[float, float]]) -> list[bool]:
                opened.value("beliefstream.map.draw()")
                picture = matplotlib.image.imread(io.BytesIO(opened.page.screenshot()))
                box = opened.value(
                    "(({ left, top }) => [left, top])(beliefstream.map.canvas.getBoundingClientRect())"
                )
                pixels = [
                    opened.value(f"[beliefstream.map.x({p}), beliefstream.map.y({q})]") for p, q in places
                ]
                return [
                    bool(picture[int(box[1] + row), int(box[0] + column), 0] > 0.4) for column, row in pixels
                ]

            opened.wait_until(lambda: red(inside) == [True] * 4, lambda: red(inside))
            assert red(outside) == [False] * 4
            assert "© Example" in [text for text, _, _ in opened.value(f"({TEXTS})()")]
            assert set(tiles.asked.values()) == {page.address}  # the address without what is behind it


def test_a_floor_plan_lies_at_its_origin_in_its_scale(
    opened: Tab, embedded_broker: EmbeddedNode, topics: TopicNames, tmp_path: Path
) -> None:
    """Forty pixels by twenty, the left half red; half a metre each, and turned by a right angle."""
    (tmp_path / "hall.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20" fill="blue"/>'
        '<rect width="20" height="20" fill="red"/></svg>'
    )
    (tmp_path / "hall.yaml").write_text(f"image: hall.svg\nresolution: 0.5\norigin: [1, 2, {math.pi / 2}]\n")
    layers = Layers(floor_plan=FloorPlan.read(tmp_path / "hall.yaml"))
    with served(embedded_broker.bootstrap_servers, topics, layers=layers) as page:
        page.put(posterior(1, mixture=Mixture.gaussian((-2, 5), 0.1)))
        opened.open(page.address)
        opened.wait_for(f"{ENTITIES}.size === 1 && beliefstream.map.background.plan !== null")
        opened.wait_for("beliefstream.map.background.picture.naturalWidth === 40")
        opened.value("beliefstream.map.fit()")
        assert opened.value("beliefstream.map.bottom + beliefstream.map.height / beliefstream.map.scale") > 22
        look(opened, -20.03, -5.03, 20)  # it reaches from x = -9 to 1 and from y = 2 to 22
        places = [
            (-8.5, 2.5),
            (0.5, 11.5),
            (0.5, 12.5),
            (-8.5, 21.5),
            (-9.5, 12),
            (1.5, 12),
            (-4, 1.5),
            (-4, 22.5),
        ]
        assert [(r > 100, b > 100) for r, _, b, _ in opened.pixels(places)] == [
            *[(True, False)] * 2,
            *[(False, True)] * 2,
            *[(False, False)] * 4,
        ]


def test_what_does_not_come_is_said(
    opened: Tab, embedded_broker: EmbeddedNode, topics: TopicNames, tmp_path: Path
) -> None:
    (tmp_path / "hall.png").write_bytes(b"no picture")
    (tmp_path / "hall.yaml").write_text("image: hall.png\nresolution: 0.5\norigin: [0, 0, 0]\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}/{{z}}/{{x}}/{{y}}.png"
    layers = Layers(nobody, "© Example", FloorPlan.read(tmp_path / "hall.yaml"))
    with served(embedded_broker.bootstrap_servers, topics, layers=layers) as page:
        page.put(on_earth())
        opened.open(page.address)
        opened.wait_for(
            "/cannot be shown.*© Example .[0-9]+ tiles have not come/.test(beliefstream.map.background.said)"
        )
        assert "The picture of the floor plan" in opened.value("beliefstream.map.background.said")
    assert all("ERR_CONNECTION_REFUSED" in each for each in opened.complaints)
    opened.complaints.clear()
