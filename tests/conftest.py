"""Fixtures for tests that need a broker: every one is real, and every test has topics of its own."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.local import broker as ports
from tests.brokers import Broker, EmbeddedNode, KafkaNode
from tests.order import spread

T = TypeVar("T")
# a busy machine is no fault: neither profile has a limit of time
settings.register_profile(
    "same", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)
settings.register_profile(
    "others", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("same")  # `make search` chooses "others" with --hypothesis-profile

# processes side by side draw ports from a part each: what one has drawn and not bound yet the other does not draw
_PROCESS, _PROCESSES = (
    int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")),
    int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")),
)
ports.PORTS = ports.PORTS[_PROCESS::_PROCESSES]

MARKERS = {
    "kafka": "runs on Apache Kafka itself (needs java and mvn)",
    "soak": "runs for minutes under load",
    "long": "takes many minutes; only where asked for by -m long",
    "chaos": "kills processes, workers or brokers",
    "programs": "starts programs, and waits for them most of its time",
}


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--hypothesis-profile") in (None, "same"):
        _draw_alike_whatever_is_imported()
    for name, meaning in MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def _draw_alike_whatever_is_imported() -> None:
    """Keeps Hypothesis from the constants of our modules.

    It draws from those of the modules imported so far, and these depend on the tests that ran before in the same
    process. Hypothesis has no setting for it; tests/test_same_inputs.py tells when this no longer works.
    """
    none = Constants()
    providers._get_local_constants = lambda: none


@pytest.fixture(autouse=True)
def same_draws() -> None:
    """Every test begins with the same global generators, whatever ran before it."""
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.hookimpl(trylast=True)  # after pytest has put together what shares a broker
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "long" not in config.option.markexpr:
        items[:] = [item for item in items if item.get_closest_marker("long") is None]
    if "PYTEST_XDIST_WORKER" in os.environ:
        items[:] = spread(items, _waits)


def pytest_collection_finish() -> None:
    """Takes what is imported by now out of the collector's sight: a million objects, a second each time."""
    gc.collect()
    gc.freeze()


def _waits(item: pytest.Item) -> bool:
    """Whether a test waits for what it has started, most of its time."""
    brokers = {"broker", "embedded_broker", "kafka_broker"}
    fixtures: list[str] = getattr(item, "fixturenames", [])
    return not brokers.isdisjoint(fixtures) or any(
        map(item.get_closest_marker, ("chaos", "kafka", "programs"))
    )


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedNode]:
    """The embedded broker, shared by all tests of the session."""
    with EmbeddedNode() as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[KafkaNode]:
    """Apache Kafka, shared by the session's tests: one that stops it takes a `KafkaNode` of its own."""
    with KafkaNode() as broker:
        yield broker


@pytest.fixture(
    params=[pytest.param("embedded"), pytest.param("kafka", marks=pytest.mark.kafka)], scope="session"
)
def broker(request: pytest.FixtureRequest) -> Broker:
    """Each of the two brokers in turn."""
    found: Broker = request.getfixturevalue(f"{request.param}_broker")
    return found


def shared_by_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of this run, the same in every process of pytest-xdist."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@dataclass(frozen=True)
class Names:
    """Names no other test uses.

    Attributes:
        app_id: the Faust app's id, which is also its consumer group.
        topics: the topics' names; the changelog's follows from the app id.
    """

    app_id: str
    topics: TopicNames


@pytest.fixture
def names() -> Names:
    """Topic names and an app id of this test's own."""
    return unique_names()


def unique_names() -> Names:
    suffix = uuid4().hex[:8]
    app_id = f"beliefstream-{suffix}"
    topics = TopicNames(
        observations=f"observations-{suffix}",
        sensors=f"sensors-{suffix}",
        models=f"models-{suffix}",
        priors=f"priors-{suffix}",
        posteriors=f"posteriors-{suffix}",
        dead_letters=f"dead-letters-{suffix}",
        sensor_health=f"sensor-health-{suffix}",
        beliefs_changelog=f"{app_id}-beliefs-changelog",
    )
    return Names(app_id=app_id, topics=topics)


def eventually(condition: Callable[[], T], timeout: float, what: str) -> T:
    """Calls `condition` until it returns something true, and returns that.

    Args:
        condition: an exception from it is not caught.
        timeout: seconds, after which the test fails.
        what: for the message: "not within 10 s: {what}".
    """
    deadline = time.monotonic() + timeout
    begin = time.thread_time()
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout:g} s: {what}")
        # what costs much to look at is looked at less often: others work meanwhile
        time.sleep(min(max(0.02, 4 * (time.thread_time() - begin)), 0.2))
        begin = time.thread_time()
    return value
