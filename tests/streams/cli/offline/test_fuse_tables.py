from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from beliefstream.schemas import Posterior, parse
from beliefstream.streams.bridges.tables import format_of, open_table
from tests.streams.cli.conftest import Run, assert_one_line
from tests.streams.cli.examples import GPS, WALKER

TABLE = "t,id,x,y\n1,a,3,4\n2,a,4,4\n3,b,0,far\n3,b,0,1\n"
OPTIONS = ("--map", "time=t", "--map", "entity=id", "--map", "value=x,y", "--set", "sensor=gps")
SENSORS = "- sensor: gps\n  kind: position\n  standard_deviation: 2\n"
MODELS = """
entity: "*"
name: walker
coordinates: [{name: x, unit: m}, {name: y, unit: m}]
motion: {kind: random_walk, spectral_density: 1e-1}
prior: {weights: [1], means: [[0, 0]], covariances: [[[100, 0], [0, 100]]]}
"""


@pytest.fixture(autouse=True)
def files(small_weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", str(small_weights))
    (tmp_path / "log.csv").write_text(TABLE)
    (tmp_path / "sensors.yaml").write_text(SENSORS)
    (tmp_path / "models.yaml").write_text(MODELS)


def posteriors(out: str) -> list[Posterior]:
    return [parse(Posterior, line.encode()) for line in out.splitlines()]


def test_a_table_is_fused_as_the_same_messages_are(run: Run, tmp_path: Path) -> None:
    result = run("fuse", "log.csv", *OPTIONS, "--sensors", "sensors.yaml", "--models", "models.yaml")
    assert result.status == 0, result.err
    told, summary = result.err.splitlines()
    assert told.startswith("line 4: invalid: value[1]") and "'far'" in told
    assert summary.startswith("3 observations, 0 priors, 1 unusable line; 3 posteriors of 2")
    rows = (("a", 1, [3, 4]), ("a", 2, [4, 4]), ("b", 3, [0, 1]))
    lines = [json.dumps({"entity": e, "sensor": "gps", "time": t, "value": v}) for e, t, v in rows]
    (tmp_path / "log.jsonl").write_text("\n".join([GPS, WALKER, *lines]))
    expected = posteriors(run("fuse", "log.jsonl").out)
    found = posteriors(result.out)
    assert [each.mixture for each in found] == [each.mixture for each in expected]
    assert sorted(each.applied for each in found) == [("line:2",), ("line:3",), ("line:5",)]


def test_rows_are_held_to_the_definitions(run: Run) -> None:
    result = run("fuse", "log.csv", *OPTIONS, "--models", "models.yaml")
    assert result.status == 1
    assert result.err.splitlines()[0].startswith("line 2: unknown_sensor: ")
    assert "4 unusable lines; nothing was fused" in result.err


def test_ndjson_is_a_table_if_it_is_mapped(run: Run, tmp_path: Path) -> None:
    (tmp_path / "log.ndjson").write_text('{"t": 1, "id": "a", "x": 3, "y": 4}\n')
    result = run("fuse", "log.ndjson", *OPTIONS, "--sensors", GPS, "--models", WALKER)
    assert result.status == 0, result.err
    assert len(posteriors(result.out)) == 1


def test_an_error_in_yaml_names_file_and_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sensors.yaml").write_text(SENSORS.replace("2", "wide"))
    result = run("fuse", "log.csv", *OPTIONS, "--sensors", "sensors.yaml", "--models", "models.yaml")
    assert_one_line(result, "sensors.yaml: line 3: ", "standard_deviation", "'wide'")


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_posteriors_are_written_as_a_table(run: Run, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", exc_type=ImportError)
    options = (*OPTIONS, "--sensors", "sensors.yaml", "--models", "models.yaml")
    expected = posteriors(run("fuse", "log.csv", *options).out)
    assert run("fuse", "log.csv", *options, "--output", name).status == 0
    with closing(open_table(name, format_of(name))) as table:
        rows = [row.cells for row in table.rows]
    assert len(rows) == 3
    for row, posterior in zip(rows, expected, strict=True):
        assert isinstance(row, dict)
        assert (row["entity"], float(row["time"])) == (posterior.entity, posterior.time)
        means = [float(row[f"{name}_mean"]) for name in ("x", "y")]
        assert means == pytest.approx(posterior.mixture.mean().tolist(), abs=1e-6)


DEFINITIONS = ("--sensors", "sensors.yaml", "--models", "models.yaml")


@pytest.mark.parametrize(
    ("name", "content"), [("log.csv", "t,id,x,y\n"), ("log.jsonl", f"{GPS}\n{WALKER}\n")]
)
def test_a_file_without_observations_is_told_and_strictly_an_error(
    run: Run, tmp_path: Path, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    options = (*OPTIONS, *DEFINITIONS) if name == "log.csv" else ()
    told = f"{name}: there is no observation in it; nothing was fused"
    result = run("fuse", name, *options)
    assert (result.status, result.out, result.err.splitlines()[0]) == (0, "", told)
    assert_one_line(run("fuse", name, *options, "--strict"), told)


@pytest.mark.parametrize("is_mapped", [True, False])
def test_csv_by_another_name_is_told_how_to_be_read(run: Run, tmp_path: Path, is_mapped: bool) -> None:
    (tmp_path / "log.csv").rename(tmp_path / "log.txt")
    options = OPTIONS if is_mapped else ()
    assert_one_line(
        run("fuse", "log.txt", *options, *DEFINITIONS),
        "log.txt: no line is a JSON object",
        "or --file-format csv",
    )
    assert run("fuse", "log.txt", *OPTIONS, *DEFINITIONS, "--file-format", "csv").status == 0


@pytest.mark.parametrize("input", ["log.csv", "sensors.yaml", "models.yaml"])
def test_an_output_that_is_an_input_is_refused_and_the_input_stays(
    run: Run, tmp_path: Path, input: str
) -> None:
    before = (tmp_path / input).read_bytes()
    (tmp_path / "link.csv").symlink_to(input)
    for output in (input, str(tmp_path / input), "link.csv"):
        result = run(
            *("fuse", "log.csv", *OPTIONS, "--sensors", "sensors.yaml", "--models", "models.yaml"),
            *("--output", output),
        )
        assert_one_line(result, f"{output}: is an input of this command")
    assert (tmp_path / input).read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--map", "value=y"), "value is stated twice, 'x,y' and 'y'; several columns are value=x,y"),
        (("--map", "time=x"), "time is stated twice, 't' and 'x'"),
        (("--map", "sensor=id"), "sensor is stated twice, 'id' and 'gps'"),
        (("--set", "sensor=other"), "sensor is stated twice, 'gps' and 'other'"),
    ],
)
def test_a_field_that_options_state_twice_is_an_error(
    run: Run, options: tuple[str, str], message: str
) -> None:
    definitions = ("--sensors", "sensors.yaml", "--models", "models.yaml")
    assert_one_line(run("fuse", "log.csv", *OPTIONS, *options, *definitions), message)
