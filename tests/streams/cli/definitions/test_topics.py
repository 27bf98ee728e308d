from __future__ import annotations

import pytest

from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.cli.conftest import Run, environment, set_environment


@pytest.fixture
def no_topics(embedded_broker: EmbeddedNode, names: Names, monkeypatch: pytest.MonkeyPatch) -> Names:
    set_environment(monkeypatch, environment(embedded_broker.bootstrap_servers, names))
    return names


def test_missing_topics_are_told_created_and_then_fine(run: Run, no_topics: Names) -> None:
    missing = run("topics", "check")
    assert missing.status == 1
    assert no_topics.topics.observations in missing.out
    assert len(missing.err.splitlines()) == 1
    assert "`beliefstream topics create`" in missing.err
    created = run("topics", "create", "--partitions", "3", "--replication", "1")
    assert created.status == 0
    assert len(created.out.splitlines()) == len(list(no_topics.topics))
    assert run("topics", "check").status == 0


def test_creating_again_changes_nothing(run: Run, topics: Names) -> None:
    again = run("topics", "create")
    assert (again.status, again.out) == (0, "all topics exist\n")


def test_another_number_of_partitions_is_a_problem(run: Run, topics: Names) -> None:
    result = run("topics", "check", "--partitions", "5")
    assert result.status == 1
    assert "3 partitions instead of 5" in result.out
    assert "set BELIEFSTREAM_PARTITIONS to the topics' number of partitions" in result.err
    assert "topics create" not in result.err, "it leaves topics that exist as they are"
