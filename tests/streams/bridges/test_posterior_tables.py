from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from beliefstream.schemas import Coordinate, Mixture, Posterior, Quality
from beliefstream.streams.bridges.posterior_tables import open_posteriors

QUALITY = ["sample_efficiency", "log_evidence", "p_value", "method", "accumulated_error"]
FIRST = ["entity", "time", "sequence", "revision"]


def posterior(entity: str, *names: str, error: float | None = 0.25) -> Posterior:
    mean = [float(number) for number in range(1, len(names) + 1)]
    return Posterior(
        entity=entity,
        time=1769860800.25,
        sequence=3,
        revision=1,
        coordinates=tuple(Coordinate(name=name, unit="m") for name in names),
        mixture=Mixture.gaussian(mean, [2.0] * len(names)),
        quality=Quality(
            sample_efficiency=0.9, log_evidence=-3, p_value=0.5, method="kalman", accumulated_error=error
        ),
        applied=("first",),
        prior_sequence=0,
        model="walker",
        model_version=1,
    )


def write(path: Path, *written: Posterior) -> None:
    with open_posteriors(path) as output:
        for each in written:
            output.write(each.to_json())


def read(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_has_mean_and_standard_deviation_of_each_coordinate_and_the_quality(tmp_path: Path) -> None:
    write(tmp_path / "out.csv", posterior("a", "x", "y"), posterior("b", "x", "y", error=None))
    first, second = read(tmp_path / "out.csv")
    moments = ["x_mean", "x_standard_deviation", "y_mean", "y_standard_deviation"]
    assert list(first) == [*FIRST, *moments, *QUALITY]
    assert list(first.values()) == [
        *("a", "1769860800.25", "3", "1", "1.0", "2.0", "2.0", "2.0"),
        *("0.9", "-3.0", "0.5", "kalman", "0.25"),
    ]
    assert (second["entity"], second["accumulated_error"]) == ("b", "")


def test_coordinates_of_another_model_become_columns_and_no_row_is_lost(tmp_path: Path) -> None:
    write(tmp_path / "out.csv", posterior("a", "x"), posterior("b", "y", "x"), posterior("c", "x"))
    rows = read(tmp_path / "out.csv")
    assert [(row["entity"], row["x_mean"], row["y_mean"]) for row in rows] == [
        ("a", "1.0", ""),
        ("b", "2.0", "1.0"),
        ("c", "1.0", ""),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_rows_are_in_the_file_at_once(tmp_path: Path) -> None:
    with open_posteriors(tmp_path / "out.csv") as output:
        output.write(posterior("a", "x").to_json())
        assert len(read(tmp_path / "out.csv")) == 1


def test_a_tsv_file_has_tabs(tmp_path: Path) -> None:
    write(tmp_path / "out.tsv", posterior("a", "x"), posterior("b", "y"))
    assert (tmp_path / "out.tsv").read_text().splitlines()[0].split("\t")[:4] == FIRST


def test_another_name_is_json_lines(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl", posterior("a", "x"))
    assert (tmp_path / "out.jsonl").read_bytes() == posterior("a", "x").to_json() + b"\n"


def test_parquet_has_types_and_units(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", exc_type=ImportError)
    from pyarrow import parquet

    path = tmp_path / "out.parquet"
    write(path, posterior("a", "x", error=None), posterior("b", "y"))
    table = parquet.read_table(path)
    assert table.column_names[4:8] == ["x_mean", "x_standard_deviation", "y_mean", "y_standard_deviation"]
    assert table.schema.field("y_mean").metadata == {b"unit": b"m"}
    assert table.column("time").to_pylist() == [1769860800.25] * 2
    assert table.column("x_mean").to_pylist() == [1.0, None]
    assert table.column("sequence").to_pylist() == [3, 3]
    assert table.column("accumulated_error").to_pylist() == [None, 0.25]


def test_no_posterior_is_a_parquet_file_without_rows(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", exc_type=ImportError)
    from pyarrow import parquet

    write(tmp_path / "out.parquet")
    assert parquet.read_table(tmp_path / "out.parquet").num_rows == 0
