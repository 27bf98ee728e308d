from __future__ import annotations

from collections.abc import Iterator

import pytest
from filelock import FileLock
from playwright.sync_api import Browser

from beliefstream.streams.kafka.topics import TopicNames, create
from tests.brokers import EmbeddedNode
from tests.conftest import Names, shared_by_processes, unique_names
from tests.streams.live.browsers import Tab, chromium, tab
from tests.streams.live.pages import Page, served

PARTITIONS = 2


@pytest.fixture
def topics(embedded_broker: EmbeddedNode, names: Names) -> TopicNames:
    create(embedded_broker.bootstrap_servers, names.topics, partitions=PARTITIONS)
    return names.topics


@pytest.fixture(scope="module")
def module_topics(embedded_broker: EmbeddedNode) -> TopicNames:
    """Topics that the tests of a file share."""
    found = unique_names().topics
    create(embedded_broker.bootstrap_servers, found, partitions=PARTITIONS)
    return found


@pytest.fixture
def page(embedded_broker: EmbeddedNode, topics: TopicNames) -> Iterator[Page]:
    """A page without a token."""
    with served(embedded_broker.bootstrap_servers, topics) as page:
        yield page


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser, the only one at a time: without a GPU it draws on all processors, and brokers stand still."""
    with FileLock(shared_by_processes(tmp_path_factory) / "browser.lock"), chromium() as opened:
        yield opened


@pytest.fixture
def opened(browser: Browser) -> Iterator[Tab]:
    """A tab that in the end has complained about nothing."""
    with tab(browser) as found:
        yield found
        assert found.complaints == []
