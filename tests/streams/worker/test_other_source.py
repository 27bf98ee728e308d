"""A worker whose setting names another source topic than its beliefs came from stops, and changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from beliefstream.schemas import Observation
from beliefstream.streams.kafka import topics
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.local.simulated_fleet import simulate
from beliefstream.streams.state.lineage import OtherSource, Repartitioned, SourceRecord, check_source
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.oracle import linear_fleet
from tests.streams.workers import PARTITIONS, Stream, renamed, stream

WAIT = 60.0  # seconds
NAMES = TopicNames(observations="seen", priors="stated", beliefs_changelog="app-beliefs-changelog")
SOURCE = SourceRecord("changelog", 0, {"seen": "1", "stated": "2"}, partitions=4)


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (
            {"old": "1", "stated": "2"},
            "BELIEFSTREAM_TOPICS, observations: the beliefs in .* from the topic 'old', not 'seen'",
        ),
        (
            {"seen": "1", "old": "2"},
            "BELIEFSTREAM_TOPICS, priors: the beliefs in .* from the topic 'old', not 'stated'",
        ),
        (
            {"one": "1", "two": "2"},
            "BELIEFSTREAM_TOPICS, observations: .* 'app-beliefs-changelog' .* 'one', not 'seen'",
        ),
    ],
)
def test_the_setting_that_names_another_topic_is_told(known: dict[str, str], told: str) -> None:
    with pytest.raises(
        OtherSource, match=f"{told}; name that one again, or begin anew with another BELIEFSTREAM_APP"
    ):
        check_source(NAMES, SourceRecord("changelog", 0, known, partitions=4), SOURCE)


def test_a_topic_that_was_created_again_is_the_same_source() -> None:
    check_source(NAMES, SourceRecord("changelog", 0, {"seen": "0", "stated": "0"}, partitions=4), SOURCE)
    check_source(NAMES, None, SOURCE)


def test_another_number_of_partitions_is_told() -> None:
    with pytest.raises(Repartitioned, match="from 3 partitions of 'seen', which has 4 now"):
        check_source(NAMES, SourceRecord("changelog", 0, SOURCE.topics, partitions=3), SOURCE)


def test_a_worker_with_another_topic_stops_and_the_former_setting_goes_on(
    embedded_broker: EmbeddedNode, names: Names, tmp_path: Path
) -> None:
    with stream(embedded_broker, names, tmp_path) as opened:
        model, sensor, observations = linear_fleet(simulate(entities=2, duration=5.0, seed=6), 12)
        opened.define([model, sensor])
        worker = opened.worker().start()
        send(opened, observations[:6], 6)
        worker.stop()

        other = f"{names.topics.observations}-other"
        chosen = TopicNames.for_app(names.app_id, observations=other)
        topics.create(embedded_broker.bootstrap_servers, chosen, partitions=PARTITIONS)
        changed = opened.worker(topics=renamed(names.topics) | {"observations": other}).launch()
        assert changed.wait_until_ended(WAIT) == 70
        (line,) = [json.loads(each) for each in changed.log().splitlines() if '"error"' in each]
        assert line["event"] == "the beliefs were computed from another topic, the worker stops"
        assert f"from the topic {names.topics.observations!r}, not {other!r}; name that one" in line["detail"]

        opened.worker().start()
        send(opened, observations[6:], 12)


def send(opened: Stream, observations: list[Observation], total: int) -> None:
    """Send, and wait until there are that many posteriors, none of them twice."""
    for seen in observations:
        opened.observations.send_message(seen)
    opened.observations.flush()
    opened.posteriors.wait_for(lambda records: len(records) >= total, WAIT, f"{total} posteriors")
    assert len(opened.posteriors.records) == total
