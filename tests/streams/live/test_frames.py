"""What a viewer is sent: frames of the newest beliefs, the next only after the last was acknowledged."""

from __future__ import annotations

import time

import numpy as np
import pytest

from beliefstream.schemas import Coordinate, DeadLetter, Mixture, RangeSensor, Reason
from beliefstream.streams.client import ObservationProducer, Registry
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.live import beliefs
from tests.brokers import EmbeddedNode
from tests.conftest import eventually
from tests.http_answers import PATIENCE
from tests.streams.client.topics import posterior
from tests.streams.live.pages import Page, served, watched

TWO_MODES = Mixture(
    weights=(0.25, 0.75),
    means=((1.0, 2.0), (30.0, 40.0)),
    covariances=(((4.0, 1.0), (1.0, 9.0)), ((16.0, 0.0), (0.0, 25.0))),
)
ODD = ("__proto__", "constructor", "../../login", "a:b@c/d+e", "x" * 128)


def test_a_frame_has_the_components_over_the_plane(page: Page) -> None:
    page.put(posterior(1, mixture=TWO_MODES))
    with watched(page) as browser:
        browser.wait_for_entities("mower")
        shown = browser.entities["mower"]
        np.testing.assert_allclose(
            shown.components, [[0.25, 1, 2, 4, 1, 9], [0.75, 30, 40, 16, 0, 25]], rtol=1e-6
        )
        assert (shown.method, shown.time) == ("transformer", 1.0)
        assert shown.efficiency == pytest.approx(0.9)
        assert browser.notes["plane"] == [{"name": "x", "unit": "m"}, {"name": "y", "unit": "m"}]


def test_the_plane_can_be_chosen(embedded_broker: EmbeddedNode, topics: TopicNames) -> None:
    names = ("x", "height", "y")
    coordinates = tuple(Coordinate(name=name, unit="m") for name in names)
    with served(embedded_broker.bootstrap_servers, topics, plane=("y", "height")) as page:
        page.put(posterior(1, coordinates=coordinates, mixture=Mixture.gaussian((1.0, 2.0, 3.0), (4, 5, 6))))
        page.put(posterior(1, "line", coordinates=coordinates[:1], mixture=Mixture.gaussian((1.0,), 1)))
        with watched(page) as browser:
            browser.wait_for_entities("mower", "line")
            np.testing.assert_allclose(browser.entities["mower"].components, [[1, 3, 2, 36, 0, 25]])
            assert len(browser.entities["line"].components) == 0  # it has no place on this map


def test_what_was_on_the_topic_before_is_shown(embedded_broker: EmbeddedNode, topics: TopicNames) -> None:
    with served(embedded_broker.bootstrap_servers, topics) as first:
        first.put(*(posterior(number) for number in range(1, 6)))
    with served(embedded_broker.bootstrap_servers, topics) as page, watched(page) as browser:
        browser.send(type="select", name="mower")
        browser.wait_for("details")
        browser.wait_until(lambda: len(browser.samples) >= 5, "all samples")
        assert [sample["t"] for sample in browser.samples] == [1, 2, 3, 4, 5]


def test_no_frame_is_sent_before_the_last_was_acknowledged(page: Page) -> None:
    page.put(posterior(1))
    with watched(page) as slow, watched(page) as quick:
        slow.wait_for_entities("mower")
        quick.wait_for_entities("mower")
        slow.receive(acknowledge=False)
        for number in range(2, 8):
            page.put(posterior(number))
            quick.wait_for_time("mower", number)
        with pytest.raises(TimeoutError):
            slow.receive(timeout=0.6)
        slow.send(type="drawn")
        slow.receive()
        assert slow.entities["mower"].time >= 6  # the newest, not those in between


def test_at_most_ten_frames_come_a_second(page: Page) -> None:
    with watched(page) as browser:
        page.put(posterior(1))
        browser.wait_for_entities("mower")
        begin, before = time.monotonic(), browser.frames
        number = 2
        while time.monotonic() < begin + 1.5:
            page.put(posterior(number))
            number += 1
            browser.receive()
        assert 3 <= browser.frames - before <= 16


def test_odd_names_arrive_as_they_are(page: Page) -> None:
    page.put(*(posterior(1, name) for name in ODD))
    with watched(page) as browser:
        browser.wait_for_entities(*ODD)


def test_records_that_are_no_posteriors_are_passed_over(page: Page) -> None:
    page.raw.send(page.topics.posteriors, key=b"bad", value=b'{"entity": "bad"')
    hostile = posterior(1).to_json().replace(b"mower", b"<script>")
    page.raw.send(page.topics.posteriors, key=b"<script>", value=hostile)
    page.raw.send(page.topics.posteriors, key=b"none", value=None)
    page.raw.send(page.topics.dead_letters, key=b"bad", value=b"?")
    page.raw.send(page.topics.sensors, key=b"bad", value=b"[]")
    page.put(posterior(1))
    with watched(page) as browser:
        browser.wait_for_entities("mower")
        assert set(browser.entities) == {"mower"}


def test_messages_of_a_browser_that_make_no_sense_do_no_harm(page: Page) -> None:
    page.put(posterior(1))
    with watched(page) as browser:
        for message in ("", "[", "[1]", '{"type": 1}', '{"type": "select", "name": {}}', "[" * 10_000):
            browser.connection.send(message)
        browser.connection.send(b"bytes")
        browser.wait_for_entities("mower")


def test_a_selected_entity_comes_with_its_history_and_observations(
    page: Page, embedded_broker: EmbeddedNode
) -> None:
    page.put(posterior(1, mixture=TWO_MODES))
    with watched(page) as browser:
        browser.wait_for_entities("mower")
        with ObservationProducer(embedded_broker.bootstrap_servers, page.topics.observations) as producer:
            producer.send("mower", "beacon", 12.5, time=1.5)
        browser.send(type="select", name="mower")
        page.put(posterior(2))
        browser.wait_for("details")
        browser.wait_until(lambda: browser.notes["details"]["observations"], "one")
        details = browser.notes["details"]
        assert details["observations"] == [{"sensor": "beacon", "time": 1.5, "values": [12.5]}]
        assert browser.samples[0]["k"] == 2
        assert browser.samples[0]["q"] == [0.25, 0.75, 1, 2, 30, 40, 4, 9, 16, 25]


def test_latency_lag_and_workers_are_told(
    page: Page, embedded_broker: EmbeddedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two observations wait, for there is no worker; a posterior has one of them."""
    monkeypatch.setattr(beliefs, "WINDOW", PATIENCE)  # a busy machine may tell nothing for seconds
    with watched(page) as browser:
        page.put(posterior(1))
        browser.wait_for_entities("mower")
        with ObservationProducer(embedded_broker.bootstrap_servers, page.topics.observations) as producer:
            sent = time.time()
            place = producer.send("mower", "beacon", 12.5, time=1.5).result(PATIENCE)
            producer.send("mower", "beacon", 12.6, time=1.6).result(PATIENCE)
        # a page that reads a posterior before its observation cannot match them
        known = page.page.content.beliefs.entities["mower"].observations
        eventually(lambda: len(known) == 2, PATIENCE, "the page has read both observations")
        page.put(posterior(2, applied=(f"{place.partition}:{place.offset}",)))
        browser.wait_until(lambda: browser.notes["health"]["latency"] is not None, "latency")
        median, most = browser.notes["health"]["latency"]
        assert 0 <= median == most < time.time() - sent
        browser.wait_until(lambda: browser.notes["health"]["lag"] == 2, "lag of 2")
        health = browser.notes["health"]
        assert (health["workers"], health["group_note"]) == (0, "")


def test_sensors_health_and_dead_letters_are_told(page: Page, embedded_broker: EmbeddedNode) -> None:
    registry = Registry(embedded_broker.bootstrap_servers, page.topics.sensors, page.topics.models)
    with registry:
        registry.set_sensor(RangeSensor(sensor="beacon", position=(0.0, 5.0), standard_deviation=0.3))
    letter = DeadLetter(
        reason=Reason.unknown_sensor,
        detail="sensor: not defined",
        topic="observations",
        partition=0,
        offset=7,
        key=b"mower",
        value=b'{"entity": "mower", "sensor": "<b>"}',
    )
    page.raw.send(page.topics.dead_letters, key=letter.key, value=letter.value, headers=letter.headers())
    poor = posterior(1).quality.model_copy(update={"sample_efficiency": 0.1})
    page.put(posterior(1, quality=poor))
    with watched(page) as browser:
        browser.wait_for_entities("mower")
        browser.wait_until(lambda: browser.notes.get("sensors"), "sensors")
        browser.wait_until(lambda: browser.notes.get("letters"), "a dead letter")
        assert browser.notes["sensors"] == [{"name": "beacon", "kind": "range", "place": [0, 5]}]
        (told,) = browser.notes["letters"]
        assert (told["reason"], told["sensor"], told["source"]) == (
            "unknown_sensor",
            "<b>",
            "observations/0:7",
        )
        health = browser.notes["health"]
        assert health["entities"] == 1
        assert health["refined"] == 0
        assert health["poor"] == [{"name": "mower", "efficiency": 0.1}]
        assert health["reasons"] == {"unknown_sensor": 1}
