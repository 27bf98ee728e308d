from __future__ import annotations

import io
import json
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from beliefstream.schemas import Observation, Unusable
from beliefstream.streams.bridges.formats import FileFormat
from beliefstream.streams.bridges.mapping import ColumnMapping, Found, mapping_of, observations
from beliefstream.streams.bridges.tables import format_of, open_table


def read(path: Path, mapping: ColumnMapping | None = None) -> list[Found]:
    with closing(open_table(str(path), format_of(str(path)))) as table:
        return list(observations(table, mapping or ColumnMapping()))


def written(folder: Path, text: str | bytes, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def faults(found: list[Found]) -> list[str]:
    return [f"{each.place}: {each.observation}" for each in found if isinstance(each.observation, Unusable)]


def good(found: list[Found]) -> list[Observation]:
    return [each.observation for each in found if isinstance(each.observation, Observation)]


def test_columns_called_as_the_fields_need_no_mapping(tmp_path: Path) -> None:
    text = "entity,sensor,time,value,id,colour\na,gps,1.5,3,first,red\nb,gps,2026-01-31T12:00:00Z,4e0,,\n"
    assert good(read(written(tmp_path, text))) == [
        Observation(entity="a", sensor="gps", time=1.5, value=3.0, id="first"),
        Observation(entity="b", sensor="gps", time=1769860800.0, value=4.0),
    ]


def test_columns_are_mapped_and_constants_are_set(tmp_path: Path) -> None:
    path = written(tmp_path, "t,id,x,y,sx,sy\n1500,7,3,4,.5,1\n")
    mapping = mapping_of(
        {}, ["time=t", "entity=id", "value=x,y", "standard_deviation=sx,sy"], ["sensor=gps"], "ms"
    )
    assert good(read(path, mapping)) == [
        Observation(entity="7", sensor="gps", time=1.5, value=(3.0, 4.0), standard_deviation=(0.5, 1.0))
    ]


def test_a_column_that_is_another_field_is_not_the_id_too(tmp_path: Path) -> None:
    """A worker drops an observation whose id it has applied: one of the entity's name would lose all but the first."""
    mapping = mapping_of({}, ["entity=id"], [], None)
    (only,) = good(read(written(tmp_path, "id,sensor,time,value\na,gps,1,3\n"), mapping))
    assert (only.entity, only.id) == ("a", None)
    line = '{"id": "a", "sensor": "gps", "time": 1, "value": 3}'
    assert good(read(written(tmp_path, line, "log.ndjson"), mapping)) == [only]


def test_a_mapping_file_says_the_same_and_options_go_first() -> None:
    stated = {
        "columns": {"time": "t", "value": ["x", "y"]},
        "constants": {"sensor": "gps"},
        "time_unit": "ms",
    }
    same = mapping_of({}, ["time=t", "value=x,y"], ["sensor=gps"], "ms")
    assert mapping_of(stated, [], [], None) == same
    changed = mapping_of(stated, ["time=when", "sensor=device"], ["value=3"], "s")
    assert changed == ColumnMapping({"time": ("when",), "sensor": ("device",)}, {"value": 3.0}, "s")


def test_numbered_columns_are_a_list(tmp_path: Path) -> None:
    header = "entity,sensor,time,value_1,value_2,standard_deviation_1,standard_deviation_2\n"
    (only,) = good(read(written(tmp_path, f"{header}a,gps,1,3,4,.5,.6\n")))
    assert (only.value, only.standard_deviation) == ((3.0, 4.0), (0.5, 0.6))


def test_a_cell_may_be_a_json_list(tmp_path: Path) -> None:
    text = 'entity,sensor,time,value,covariance\na,gps,1,"[3, 4]","[[1, 0], [0, 2]]"\n'
    (only,) = good(read(written(tmp_path, text)))
    assert (only.value, only.covariance) == ((3.0, 4.0), ((1.0, 0.0), (0.0, 2.0)))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_spreadsheets_files_are_read(tmp_path: Path, delimiter: str, end: str) -> None:
    lines = ["entity,sensor,time,value", "a,gps,1,3", "", "b,gps,2,4", ""]
    text = end.join(lines).replace(",", delimiter)
    found = read(written(tmp_path, b"\xef\xbb\xbf" + text.encode()))
    assert [each.place for each in found] == ["line 2", "line 4"]
    assert [each.entity for each in good(found)] == ["a", "b"]


BAD = """entity,sensor,time,value
a,gps,1769860800000,3
a,gps,yesterday,3
a,gps,2026-01-31T12:00:00,3
a,gps,2,far
a,gps,3,
a b,gps,4,3
a,gps,5,nan
a,gps,6,1_0
a,gps,7
"a
b",gps,8,3
a,gps,9,"3,5"
a,gps,10,3
"""


def test_every_bad_row_is_named_with_line_field_and_value_and_no_good_one_is_lost(tmp_path: Path) -> None:
    found = read(written(tmp_path, BAD))
    assert [each.time for each in good(found)] == [10.0]
    parts = [
        ("line 2: invalid_time: time: looks like milliseconds", "2026-01-31T12:00:00Z", "1769860800000"),
        ("line 3: invalid_time: time: expected seconds", "'yesterday'"),
        ("line 4: invalid_time: time: expected seconds", "'2026-01-31T12:00:00'"),
        ("line 5: invalid: value", "'far'"),
        ("line 6: invalid: value: nothing in 'value'",),
        ("line 7: invalid: entity", "'a b'"),
        ("line 8: not_finite: value", "nan"),
        ("line 9: invalid: value", "'1_0'"),
        ("line 10: invalid: message: 3 cells under 4 columns (a, gps, 7)",),
        ("lines 11 to 12: invalid: entity", "'a\\nb'"),
        ("line 13: invalid: value", "'3,5'"),
    ]
    told = faults(found)
    assert len(told) == len(parts)
    for line, expected in zip(told, parts, strict=True):
        assert line.startswith(expected[0]), line
        assert all(part in line for part in expected), line


def test_a_quote_that_is_never_closed_names_the_lines_that_it_swallows(tmp_path: Path) -> None:
    text = 'entity,sensor,time,value\na,gps,1,3\n"a,gps,2,3\na,gps,3,3\n'
    found = read(written(tmp_path, text))
    assert len(good(found)) == 1
    (line,) = faults(found)
    assert line.startswith("lines 3 to 4: invalid: message: not CSV: ")


def test_bytes_that_are_no_text_are_a_bad_row(tmp_path: Path) -> None:
    found = read(
        written(tmp_path, b"entity,sensor,time,value,id\na\xff,gps,1,3,\na,gps,2,3,\xff\na,gps,3,3,\n")
    )
    assert [each.time for each in good(found)] == [3.0]
    first, second = faults(found)
    assert first.startswith("line 2: invalid: entity")
    assert second.startswith("line 3: invalid: id")


@pytest.mark.parametrize(
    ("header", "options", "parts"),
    [
        (
            "when,entity,sensor,value",
            [],
            ("no column 'time'; map time to one of when, entity, sensor, value",),
        ),
        ("time,entity,sensor,x", ["value=x,y"], ("no column 'y' for value", "time, entity, sensor, x")),
        ("time,entity,sensor,time", [], ("names column 'time' twice",)),
        ("", [], ("the names of the columns",)),
        ("a\rb", [], ("line 1: not CSV: new-line character",)),
    ],
)
def test_a_table_that_lacks_a_column_is_one_line_with_those_it_has(
    tmp_path: Path, header: str, options: list[str], parts: tuple[str, ...]
) -> None:
    path = written(tmp_path, f"{header}\n1,a,gps,3\n")
    with pytest.raises(ValueError) as caught:
        read(path, mapping_of({}, options, [], None))
    for part in (str(path), *parts):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("stated", "columns", "constants", "part"),
    [
        ({}, ["speed=v"], [], "no field is called 'speed'"),
        ({}, ["time=t,u"], [], "time comes from one column"),
        ({}, ["time"], [], "got 'time'"),
        ({}, ["value=x,,y"], [], "value names no column"),
        ({"column": {}}, [], [], "'column'"),
        ({"columns": ["t"]}, [], [], "columns: expected an object"),
        ({"columns": {"time": 3}}, [], [], "time: expected a column's name or a list of them, got 3"),
        ({"columns": {"time": "t"}, "constants": {"time": 3}}, [], [], "both a column and a constant"),
        ({"time_unit": "minutes"}, [], [], "'minutes'"),
    ],
)
def test_a_mapping_that_is_none_says_why(
    stated: dict[str, Any], columns: list[str], constants: list[str], part: str
) -> None:
    with pytest.raises(ValueError, match=r"mapping|expected") as caught:
        mapping_of(stated, columns, constants, None)
    assert part in str(caught.value)


def test_ndjson_without_a_mapping_is_messages(tmp_path: Path) -> None:
    message = {"entity": "a", "sensor": "gps", "time": 1, "value": [3, 4]}
    lines = [json.dumps(message), "", "nonsense", "[1]", json.dumps({**message, "colour": "red"})]
    found = read(written(tmp_path, "\n".join(lines), "log.ndjson"))
    assert good(found) == [Observation(entity="a", sensor="gps", time=1.0, value=(3.0, 4.0))]
    told = faults(found)
    assert [line.partition(": ")[0] for line in told] == ["line 3", "line 4", "line 5"]
    assert "not JSON" in told[0] and "[1]" in told[1] and "colour" in told[2]


@pytest.mark.parametrize("first", ["nonsense\n" * 2500, "\n", "\ufeff"])
def test_ndjson_may_begin_with_lines_that_are_none(tmp_path: Path, first: str) -> None:
    message = '{"entity": "a", "sensor": "gps", "time": 1, "value": 3}\n'
    found = read(written(tmp_path, f"{first}{message}\n{message}also bad\n", "log.ndjson"))
    assert len(good(found)) == 2
    assert len(faults(found)) == first.count("nonsense") + 1


@pytest.mark.parametrize("lines", [1, 2500])
def test_a_file_without_any_object_is_not_ndjson(tmp_path: Path, lines: int) -> None:
    path = written(tmp_path, "a,gps,1,3\n" * lines, "log.ndjson")
    with pytest.raises(ValueError, match=r"log\.ndjson: no line is a JSON object; .* --file-format csv$"):
        read(path)


def test_ndjson_without_lines_has_no_rows(tmp_path: Path) -> None:
    assert read(written(tmp_path, "\n \n", "log.ndjson")) == []


def test_ndjson_is_mapped_and_fields_inside_objects_are_found(tmp_path: Path) -> None:
    line = {"mmsi": 211, "at": "2026-01-31T12:00:00Z", "position": {"lat": 54, "lon": 10.5}, "speed": 3}
    mapping = mapping_of(
        {}, ["entity=mmsi", "time=at", "value=position.lat,position.lon"], ["sensor=ais"], None
    )
    found = read(written(tmp_path, f'{json.dumps(line)}\n{{"mmsi": 3}}\n', "log.jsonl"), mapping)
    assert good(found) == [Observation(entity="211", sensor="ais", time=1769860800.0, value=(54.0, 10.5))]
    assert faults(found) == ["line 2: invalid: time: nothing in 'at'"]


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = b"entity,sensor,time,value\na,gps,1,3\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    table = open_table("-", FileFormat.csv)
    assert (table.name, len(good(list(observations(table, ColumnMapping()))))) == ("standard input", 1)


def test_lists_without_end_and_numbers_without_end_are_bad_rows(tmp_path: Path) -> None:
    text = f"entity,sensor,time,value\na,gps,1,{'[' * 100_000}\na,gps,2,3\n"
    found = read(written(tmp_path, text))
    assert len(good(found)) == 1 and faults(found)[0].startswith("line 2: invalid: value")
    line = '{"entity": "a", "sensor": "gps", "time": 1%s, "value": 3}' % ("0" * 400)
    (fault,) = faults(read(written(tmp_path, line, "log.ndjson"), mapping_of({}, [], [], "ms")))
    assert fault.startswith("line 1: invalid_time: time")


def test_a_name_that_says_no_format_is_told() -> None:
    with pytest.raises(ValueError, match=r"log\.txt: its name ends in none of \.csv"):
        format_of("log.txt")
    assert format_of("LOG.CSV") is FileFormat.csv


def test_parquet_is_read_with_its_types(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    from pyarrow import parquet

    at = [datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC), datetime(2026, 1, 31, 12, 0, 1, tzinfo=UTC), None]
    columns = {
        "entity": pyarrow.array([211, 212, 213]),
        "sensor": ["ais"] * 3,
        "time": pyarrow.array(at, pyarrow.timestamp("ns", "Europe/Berlin")),
        "value": [[54.0, 10.5], [55.0, None], [1.0, 2.0]],
        "id": ["first", None, None],
    }
    path = tmp_path / "log.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    with closing(open_table(str(path), FileFormat.parquet)) as table:
        assert table.size == 3
    found = read(path)
    assert good(found) == [
        Observation(entity="211", sensor="ais", time=1769860800.25, value=(54.0, 10.5), id="first")
    ]
    second, third = faults(found)
    assert second.startswith("row 2: invalid: value[1]") and "None" in second
    assert third == "row 3: invalid: time: nothing in 'time'"


def test_a_parquet_time_without_a_zone_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", exc_type=ImportError)
    from pyarrow import parquet

    columns = {"entity": ["a"], "sensor": ["gps"], "time": [datetime(2026, 1, 31, 12)], "value": [1.0]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "log.parquet")
    (line,) = faults(read(tmp_path / "log.parquet"))
    assert "with an offset ('2026-01-31T12:00:00" in line


def test_a_file_that_is_not_parquet_is_one_line(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", exc_type=ImportError)
    with pytest.raises(ValueError, match=r"log\.parquet: not Parquet"):
        read(written(tmp_path, "entity,time\n", "log.parquet"))


def test_a_sensor_that_moves_states_where_it_was(tmp_path: Path) -> None:
    text = (
        "entity,sensor,time,value,position_1,position_2,orientation\na,cam,1,0.5,3,4,0.25\na,cam,2,0.6,,,\n"
    )
    moved, stayed = good(read(written(tmp_path, text)))
    assert moved == Observation(
        entity="a", sensor="cam", time=1.0, value=0.5, position=(3.0, 4.0), orientation=0.25
    )
    assert (stayed.position, stayed.orientation) == (None, None)
    mapping = mapping_of({}, ["position=px,py", "orientation=yaw,pitch,roll"], [], None)
    text = "entity,sensor,time,value,px,py,yaw,pitch,roll\na,cam,1,0.5,3,4,1,2,3\n"
    (only,) = good(read(written(tmp_path, text), mapping))
    assert (only.position, only.orientation) == ((3.0, 4.0), (1.0, 2.0, 3.0))


def test_an_object_whose_parts_are_the_value_is_no_position(tmp_path: Path) -> None:
    line = '{"entity": "a", "sensor": "gps", "time": 1, "position": {"lat": 50.5, "lon": -1.25}}'
    mapping = mapping_of({}, ["value=position.lat,position.lon"], [], None)
    assert good(read(written(tmp_path, line, "log.ndjson"), mapping)) == [
        Observation(entity="a", sensor="gps", time=1.0, value=(50.5, -1.25))
    ]
