"""The page says what state the stream is in, which is not that of its WebSocket."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser

from beliefstream.streams.kafka.topics import create
from tests.brokers import KafkaNode
from tests.conftest import Names
from tests.streams.client.topics import posterior
from tests.streams.live.browsers import ENTITIES, Tab, tab
from tests.streams.live.pages import served

AWAY = 60.0  # seconds; it takes about ten


def waits_for(opened: Tab, text: str, kind: str) -> None:
    said = "document.querySelector('#said').textContent"
    state = "['quiet', 'stale'].filter((each) => document.body.classList.contains(each)).join()"
    opened.wait_until(
        lambda: re.fullmatch(text, opened.value(said)) and opened.value(state) == kind,
        lambda: (opened.value(said), opened.value(state)),
        AWAY,
    )


@pytest.mark.chaos
@pytest.mark.kafka
def test_a_killed_broker_is_seen_and_so_is_its_return(browser: Browser, names: Names) -> None:
    with KafkaNode() as broker, tab(browser) as opened:
        create(broker.bootstrap_servers, names.topics, partitions=2)
        with served(broker.bootstrap_servers, names.topics) as page:
            page.put(posterior(1))
            opened.open(page.address)
            opened.wait_for(f"{ENTITIES}.size === 1")
            waits_for(opened, "live", "")
            newest = opened.page.inner_text("#newest")
            assert re.fullmatch(r"last posterior \d\d:\d\d:\d\d", newest)
            broker.kill()
            waits_for(opened, r"no message from Kafka for \d+ s", "stale")
            assert "no broker answers" in (opened.page.get_attribute("#said", "title") or "")
            assert opened.page.inner_text("#newest") == newest
            assert opened.value("beliefstream.map.stale")
            broker.start()
            waits_for(opened, r"no message from Kafka for .*", "quiet")  # it answers, and nobody sends
            assert not opened.value("beliefstream.map.stale")
            page.raw.send(page.topics.observations, key=b"mower", value=b"{}")
            page.raw.flush()
            waits_for(opened, r"observations come, but no posterior for .*", "stale")
            page.put(posterior(2))
            waits_for(opened, "live", "")
        waits_for(opened, r"no answer from this page's server for \d+ s", "stale")
