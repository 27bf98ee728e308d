"""Priors that are drawn by mouse, or given by numbers, in Chromium."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from playwright.sync_api import Route

from beliefstream.schemas import (
    Coordinate,
    Mixture,
    Model,
    PositionSensor,
    Prior,
    RandomWalk,
    parse,
)
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.client.topics import posterior, records
from tests.streams.live.browsers import Tab, add, draw, show
from tests.streams.live.pages import Page, served
from tests.streams.workers import stream

NARROW = ((1.0, 0.0), (0.0, 1.0))
TWO_MODES = Mixture(weights=(0.5, 0.5), means=((-20.0, 0.0), (20.0, 0.0)), covariances=(NARROW, NARROW))


def test_a_prior_drawn_by_mouse_arrives(opened: Tab, page: Page, embedded_broker: EmbeddedNode) -> None:
    page.put(posterior(1, mixture=TWO_MODES))
    show(opened, page.address)
    assert not opened.page.is_visible("#send")  # while there is nothing to send
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
    opened.page.select_option("select[name=mode]", "product")
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


def test_a_posterior_that_overtakes_the_answer_to_its_prior_is_seen(
    opened: Tab, page: Page, embedded_broker: EmbeddedNode
) -> None:
    page.put(posterior(1))
    show(opened, page.address)
    held: list[Route] = []
    opened.page.route("**/priors", lambda route: held.append(route))
    add(opened)
    opened.page.click("#send")
    opened.wait_until(lambda: held, lambda: "the prior is not sent")
    answer = held[0].fetch()
    page.put(posterior(2, prior_sequence=1))
    opened.wait_for("document.querySelector('#facts').textContent.includes('2, revision 0')")
    held[0].fulfill(response=answer)
    opened.wait_for("document.querySelector('#answer').textContent.startsWith('Applied: posterior 2')")


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
            show(opened, page.address)
            draw(opened, (30.0, -20.0), 2.0)
            opened.page.select_option("select[name=when]", "newest")
            opened.page.click("#send")
            # the worker may still be starting
            opened.wait_for("document.querySelector('#answer').textContent.startsWith('Applied')", 90.0)
            # the observation of that time counts after the prior, so the belief is between both
            share = (variance := (2 / np.sqrt(-2 * np.log(0.1))) ** 2) / (variance + 3.0**2)
            expected = (1 - share) * np.array([30, -20]) + share * np.array([1, 2])
            opened.wait_for(f"Math.abs(beliefstream.map.selected.components[1] - {expected[0]}) < 0.1")
            shown = opened.value("[...beliefstream.map.selected.components]")
            np.testing.assert_allclose(shown[1:3], expected, atol=0.1)


def test_exact_numbers_of_several_ellipses_are_sent(
    opened: Tab, page: Page, embedded_broker: EmbeddedNode
) -> None:
    page.put(posterior(1))
    show(opened, page.address)
    for number in (1, 2):
        add(opened)
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
