"""Sensors and their verdicts in Chromium."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from beliefstream.schemas import (
    Coordinate,
    Mixture,
    Model,
    PositionSensor,
    RandomWalk,
    RangeSensor,
)
from beliefstream.schemas.sensor_health import Verdict
from beliefstream.streams.client.sensor_health import read_sensor_health
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.live.browsers import Tab
from tests.streams.live.pages import Page, served
from tests.streams.workers import stream


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
            opened.wait_for("document.querySelector('#faulty-count').textContent !== '0'")
            opened.wait_for("document.querySelector('#workers').textContent === '1'")
            opened.wait_for("document.querySelector('#lag').textContent === '0'")
            known = read_sensor_health(embedded_broker.bootstrap_servers, names.topics.sensor_health)
            expected = known["bent"].assessment.channels[0].bias
            assert 0.5 < expected < 2.5  # a part of it is in the belief
            opened.wait_until(
                lambda: bias(opened) == pytest.approx(expected, rel=0.1), lambda: first_row(opened)
            )
            assert first_row(opened)[:2] == ["bent", "biased"]
            orange = [True, False, False]  # the colour of "biased"
            found = partial(are_orange, opened, list(places.values()))
            opened.wait_until(lambda: found() == orange, found)


def first_row(opened: Tab) -> list[str]:
    """Of the table of sensors, cell by cell."""
    cells = opened.page.locator("#sensors tbody tr:first-child td").all_inner_texts()
    return [cell.strip() for cell in cells]


def bias(opened: Tab) -> float:
    return float(first_row(opened)[3].split("±")[0])


def are_orange(opened: Tab, places: list[tuple[float, float]]) -> list[bool]:
    return [pixel[:3] == [0xE6, 0x9F, 0x00] for pixel in opened.pixels(places)]


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
