"""Tiles and floor plans as the server is set to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from beliefstream.streams.live.layers import FloorPlan, Layers
from tests.brokers import EmbeddedNode
from tests.streams.live.pages import Page, served

TILES = "https://tiles.example.org:8443/base/{z}/{x}/{y}.png?key=a"


def plan(folder: Path, text: str) -> FloorPlan:
    (folder / "hall.svg").write_text("<svg/>")
    (folder / "hall.yaml").write_text(text)
    return FloorPlan.read(folder / "hall.yaml")


def test_a_floor_plan_is_read_as_a_ros_map_says_it(tmp_path: Path) -> None:
    text = "image: hall.svg\nresolution: 5e-2\norigin: [-1, 2.5, 0]\nnegate: 0\noccupied_thresh: 0.65\n"
    found = plan(tmp_path, text)
    assert found.image == tmp_path / "hall.svg"
    assert Layers(floor_plan=found).to_json() == {
        "tiles": None,
        "floor_plan": {"resolution": 0.05, "origin": (-1.0, 2.5, 0.0)},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image: hall.svg\nresolution: 0\norigin: [0, 0, 0]", "resolution: .* greater than 0 .*0"),
        ("image: hall.svg\nresolution: 1\norigin: [0, .nan, 0]", r"origin\[1\]: .* finite .*nan"),
        ("image: hall.svg\nresolution: 1", "origin: Field required"),
        ("image: hall.pgm\nresolution: 1\norigin: [0, 0, 0]", r"image: expected one of .*\.png.*hall\.pgm"),
        ("image: away.png\nresolution: 1\norigin: [0, 0, 0]", r"image: there is no such file .*away\.png"),
        ("image: [", "not YAML"),
        ("", "hall.yaml: "),
    ],
)
def test_what_is_wrong_with_a_floor_plan_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan(tmp_path, text)


def test_a_floor_plan_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: No such file"):
        FloorPlan.read(tmp_path / "none.yaml")


def test_the_host_of_the_tiles_alone_is_the_policys() -> None:
    assert Layers(TILES).host == "https://tiles.example.org:8443"
    assert Layers().host == ""


@pytest.mark.parametrize(
    "tiles",
    [
        "https://tiles.example.org/{z}/{x}.png",
        "https://tiles.example.org/{z}/{x}/{x}/{y}.png",
        "https://{s}.tiles.example.org/{z}/{x}/{y}.png",
        "tiles.example.org/{z}/{x}/{y}.png",
        "https://tiles.example.org; script-src */{z}/{x}/{y}.png",
        "https://user@tiles.example.org/{z}/{x}/{y}.png",
    ],
)
def test_what_is_no_url_of_tiles_is_refused(tiles: str) -> None:
    with pytest.raises(ValueError, match="map tiles: expected a URL"):
        Layers(tiles)


def test_only_the_page_itself_may_be_loaded_unless_tiles_are_set(
    embedded_broker: EmbeddedNode, topics: object, page: Page
) -> None:
    _, _, headers = page.request()
    assert "img-src" not in headers["Content-Security-Policy"]
    assert page.request("layers")[1] == '{"tiles":null,"floor_plan":null}'
    assert page.request("floor-plan")[0] == 404
    with served(embedded_broker.bootstrap_servers, page.topics, layers=Layers(TILES, "Example")) as other:
        _, _, headers = other.request()
        policy = headers["Content-Security-Policy"].split("; ")
        assert policy[0] == "default-src 'self'"
        assert policy[-1] == "img-src 'self' https://tiles.example.org:8443"
