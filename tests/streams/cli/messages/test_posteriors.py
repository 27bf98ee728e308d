from __future__ import annotations

import csv
from pathlib import Path

import pytest

from beliefstream.streams.client.producers import Publisher
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.bridges.test_posterior_tables import posterior
from tests.streams.cli.conftest import Run


@pytest.mark.parametrize("name", ["out.csv", "out.parquet", "out.jsonl"])
def test_posteriors_are_written_to_a_file(
    run: Run, topics: Names, embedded_broker: EmbeddedNode, tmp_path: Path, name: str
) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", exc_type=ImportError)
    sent = [posterior("a", "x").model_copy(update={"sequence": number}) for number in range(1, 6)]
    with Publisher(embedded_broker.bootstrap_servers, topics.topics.posteriors, "/test", {}) as publisher:
        for each in sent:
            publisher.publish(each.entity, each.to_json())
    result = run("posteriors", "--from-beginning", "--count", "5", "--timeout", "20", "--output", name)
    assert (result.status, result.out) == (0, ""), result.err
    if name.endswith("csv"):
        with (tmp_path / name).open(newline="") as file:
            assert [row["sequence"] for row in csv.DictReader(file)] == ["1", "2", "3", "4", "5"]
    elif name.endswith("jsonl"):
        assert (tmp_path / name).read_bytes().splitlines() == [each.to_json() for each in sent]
    else:
        from pyarrow import parquet

        assert parquet.read_table(tmp_path / name).num_rows == 5
