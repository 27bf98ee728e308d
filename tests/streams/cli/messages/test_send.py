from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from beliefstream.streams.bridges import mapping as mapping_module
from beliefstream.streams.client import BrokerUnavailable, ObservationProducer
from beliefstream.streams.kafka.connection import TopicReader
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.cli.conftest import Run, assert_one_line

HEADER = "entity,sensor,time,value\n"


def arrived(broker: EmbeddedNode, names: Names) -> list[dict[str, Any]]:
    with TopicReader(broker.bootstrap_servers, names.topics.observations, {}) as reader:
        return [json.loads(record.value) for record in reader.read_all(20)]


def test_every_row_of_a_csv_file_is_sent(
    run: Run, topics: Names, embedded_broker: EmbeddedNode, tmp_path: Path
) -> None:
    rows = [f"{time},boat-{time % 7},{time / 2},{-time}" for time in range(1000)]
    (tmp_path / "log.csv").write_text("\n".join(["t,id,x,y", *rows]))
    result = run(
        *("send", "log.csv", "--map", "time=t", "--map", "entity=id", "--map", "value=x,y"),
        *("--set", "sensor=gps"),
    )
    assert result.status == 0, result.err
    assert result.out.startswith("sent 1000 observations of 7 entities, 0 unusable rows, in ")
    expected = [
        {"entity": f"boat-{time % 7}", "sensor": "gps", "time": time, "value": [time / 2, -time]}
        for time in range(1000)
    ]
    assert sorted(arrived(embedded_broker, topics), key=lambda each: each["time"]) == expected


def test_a_mapping_file_says_which_columns(
    run: Run, topics: Names, embedded_broker: EmbeddedNode, tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text("t,x,y\n1500,3,4\n")
    (tmp_path / "columns.yaml").write_text(
        "columns: {time: t, value: [x, y]}\nconstants: {entity: boat, sensor: gps}\ntime_unit: ms\n"
    )
    assert run("send", "log.csv", "--mapping", "columns.yaml").status == 0
    assert arrived(embedded_broker, topics) == [
        {"entity": "boat", "sensor": "gps", "time": 1.5, "value": [3, 4]}
    ]


def test_ndjson_and_parquet_are_sent(
    run: Run, topics: Names, embedded_broker: EmbeddedNode, tmp_path: Path
) -> None:
    message = {"entity": "a", "sensor": "gps", "time": 1.0, "value": 3.0}
    (tmp_path / "log.ndjson").write_text(json.dumps(message))
    assert run("send", "log.ndjson").status == 0
    pyarrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([message]), tmp_path / "log.parquet")
    assert run("send", "log.parquet").status == 0
    assert arrived(embedded_broker, topics) == [message, message]


def test_bad_rows_are_told_and_the_others_are_sent(
    run: Run, topics: Names, embedded_broker: EmbeddedNode, tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text(f"{HEADER}a,gps,1769860800000,1\na,gps,2,2\na,gps,3,far\n")
    result = run("send", "log.csv")
    assert result.status == 0
    assert result.out.startswith("sent 1 observation of 1 entity, 2 unusable rows")
    first, second = result.err.splitlines()
    assert first.startswith("line 2: invalid_time: time: looks like milliseconds")
    assert second.startswith("line 4: invalid: value") and "'far'" in second
    assert [each["time"] for each in arrived(embedded_broker, topics)] == [2.0]


def test_a_file_of_which_no_row_can_be_used_is_a_failure(run: Run, topics: Names, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"{HEADER}a,gps,1,far\n")
    result = run("send", "log.csv")
    assert result.status == 1
    assert result.err.splitlines()[-1] == (
        "beliefstream: log.csv: 0 observations of 0 entities, 1 unusable row; nothing was sent"
    )


def test_a_file_without_rows_is_told_and_strictly_an_error(run: Run, topics: Names, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(HEADER)
    told = "log.csv: there is no observation in it; nothing was sent"
    result = run("send", "log.csv")
    assert (result.status, result.err.splitlines()) == (0, [told])
    assert_one_line(run("send", "log.csv", "--strict"), told)


def test_csv_by_another_name_is_told_how_to_be_sent(run: Run, topics: Names, tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(f"{HEADER}a,gps,1,1\n")
    assert_one_line(run("send", "log.txt"), "log.txt: no line is a JSON object", "or --file-format csv")
    assert run("send", "log.txt", "--file-format", "csv").status == 0


def test_strict_sends_nothing_of_a_file_with_a_bad_row(
    run: Run, topics: Names, embedded_broker: EmbeddedNode, tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text(f"{HEADER}a,gps,1,1\na,gps,2,far\n")
    result = run("send", "log.csv", "--strict")
    assert result.status == 1
    assert result.err.splitlines()[-1].endswith("log.csv: 1 of 2 rows unusable; nothing was sent")
    assert arrived(embedded_broker, topics) == []


def test_rows_out_of_order_are_told_and_sorted_if_asked(
    run: Run, topics: Names, embedded_broker: EmbeddedNode, tmp_path: Path
) -> None:
    (tmp_path / "log.csv").write_text(f"{HEADER}a,gps,9,1\na,gps,2,1\nb,gps,1,1\na,gps,5,1\n")
    told = run("send", "log.csv")
    assert (told.status, len(arrived(embedded_broker, topics))) == (0, 4)
    assert told.err.startswith("2 observations out of order, by up to 7 s")
    sorted_ = run("send", "log.csv", "--sort")
    assert (sorted_.status, sorted_.err) == (0, "")
    times = [each["time"] for each in arrived(embedded_broker, topics) if each["entity"] == "a"]
    assert times == [9, 2, 5, 2, 5, 9]


def test_a_broker_that_goes_away_is_one_line_that_says_how_far_it_came(
    run: Run, topics: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.csv").write_text(HEADER + "".join(f"a,gps,{time},1\n" for time in range(5)))
    whole = ObservationProducer.send_message

    def breaking(self: ObservationProducer, observation: Any) -> Any:
        if observation.time == 3:
            self.flush()
            raise BrokerUnavailable("localhost:1", TimeoutError("away"))
        return whole(self, observation)

    monkeypatch.setattr(ObservationProducer, "send_message", breaking)
    line = "sent as far as line 4, and of 3 observations the broker has 3"
    assert_one_line(run("send", "log.csv"), "localhost:1", line)


def test_ctrl_c_says_how_far_it_came(
    run: Run, topics: Names, embedded_broker: EmbeddedNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log.csv").write_text(HEADER + "".join(f"a,gps,{time},1\n" for time in range(5)))
    whole = mapping_module.observations

    def stopping(*arguments: Any) -> Any:
        for number, found in enumerate(whole(*arguments)):
            if number == 3:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(mapping_module, "observations", stopping)
    assert_one_line(run("send", "log.csv"), "stopped after line 4: sent 3 observations")
    assert len(arrived(embedded_broker, topics)) == 3


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("nowhere.csv",), ("nowhere.csv", "No such file")),
        (("log.csv", "--map", "speed=v"), ("'speed'",)),
        (("log.csv", "--map", "time=when"), ("log.csv", "'when'", "entity, sensor, time, value")),
        (("log.csv", "--time-unit", "hours"), ("hours",)),
        (("log.csv", "--mapping", "columns.yaml"), ("columns.yaml: mapping", "'colums'")),
        (("log.csv", "--mapping", "broken.yaml"), ("broken.yaml: line 2",)),
        (("log.csv", "--mapping", "list.yaml"), ("list.yaml", "one object")),
        (("log.csv",), ("127.0.0.1:1", "answers")),
    ],
)
def test_what_cannot_be_sent_is_one_line(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    parts: tuple[str, ...],
) -> None:
    monkeypatch.setattr("beliefstream.streams.kafka.connection.CONNECT_TIMEOUT", 0.2)
    (tmp_path / "log.csv").write_text(f"{HEADER}a,gps,1,1\n")
    (tmp_path / "columns.yaml").write_text("colums: {time: t}\n")
    (tmp_path / "broken.yaml").write_text("columns:\n  time: [}\n")
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    assert_one_line(run("send", *arguments), *parts)


def test_parquet_without_pyarrow_says_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "log.parquet").touch()
    assert_one_line(run("send", "log.parquet"), "pip install 'beliefstream[files]'")
