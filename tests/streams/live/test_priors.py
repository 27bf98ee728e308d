"""Priors from the page: checked like any other, published, and in the log."""

from __future__ import annotations

import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from beliefstream.schemas import Coordinate, Mixture, Model, Prior, RandomWalk, parse
from beliefstream.streams.client import Registry
from tests.brokers import EmbeddedNode
from tests.conftest import eventually
from tests.http_answers import PATIENCE
from tests.streams.client.topics import posterior, records
from tests.streams.live.pages import Page, watched

PLANE = {"weights": [1], "means": [[3, 4]], "covariances": [[[4, 1], [1, 9]]]}


def test_a_prior_arrives_on_the_topic_and_in_the_log(page: Page, embedded_broker: EmbeddedNode) -> None:
    with capture_logs() as logs:
        status, answer = page.post_prior(
            entity="mower", mode="product", coordinates=["x", "y"], mixture=PLANE, time=17.0
        )
    assert status == 200, answer
    (record,) = records(embedded_broker, page.topics.priors, 1)
    prior = parse(Prior, record.value)
    assert record.key == b"mower"
    assert prior == Prior(
        entity="mower", mode="product", coordinates=("x", "y"), mixture=Mixture(**PLANE), time=17.0
    )
    assert answer["place"] == f"{record.topic}/{record.partition}:{record.offset}"
    (line,) = (each for each in logs if each["event"] == "prior published")
    assert (line["entity"], line["mode"], line["client"]) == ("mower", "product", "127.0.0.1")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"entity": ""}, "entity"),
        ({"mode": "add"}, "mode"),
        ({"mixture": {**PLANE, "covariances": [[[4, 9], [9, 4]]]}}, "covariances"),
        ({"mixture": {**PLANE, "weights": [0.5]}}, "weights"),
        ({"coordinates": ["x"]}, "coordinates"),
        ({"coordinates": ["x", "depth"]}, "depth"),
        ({"more": 1}, "more"),
    ],
)
def test_a_prior_that_is_not_valid_is_refused_with_its_fault(page: Page, changes: Any, fault: str) -> None:
    page.put(posterior(1))
    with watched(page) as browser:
        browser.wait_for_entities("mower")
    fields = {"entity": "mower", "mode": "replace", "coordinates": ["x", "y"], "mixture": PLANE}
    status, answer = page.post_prior(**(fields | changes))
    assert status == 400
    assert fault in answer["error"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b"[" * 100_000, b" " * 1_000_001])
def test_what_is_no_message_is_refused(page: Page, body: bytes) -> None:
    assert page.request("priors", body)[0] == 400


@pytest.mark.parametrize("live", [True, False])
def test_without_a_time_a_prior_is_for_now_as_the_model_has_it(
    page: Page, embedded_broker: EmbeddedNode, live: bool
) -> None:
    model = Model(
        entity="*",
        name="walker",
        live_time=live,
        motion=RandomWalk(spectral_density=1.0),
        coordinates=(Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
        prior=Mixture.gaussian((0, 0), 5),
    )
    with Registry(embedded_broker.bootstrap_servers, page.topics.sensors, page.topics.models) as registry:
        registry.set_model(model)
    page.put(posterior(7))
    eventually(
        lambda: page.page.content.overview.models and page.page.content.beliefs.entities,
        PATIENCE,
        "the model",
    )
    status, answer = page.post_prior(entity="mower", coordinates=["x", "y"], mixture=PLANE)
    assert status == 200
    assert answer["time"] == pytest.approx(time.time() if live else 7.0, abs=PATIENCE)
