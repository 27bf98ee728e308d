"""`beliefstream fuse`."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.bridges.formats import FileFormat
from beliefstream.streams.cli import options
from beliefstream.streams.cli.options import Table, keep_inputs, read_definitions
from beliefstream.streams.cli.options.groups import grouped
from beliefstream.streams.cli.output import counted, loading, progress_bar
from beliefstream.streams.cli.setup import CommandError, settings_for

if TYPE_CHECKING:
    from beliefstream.streams.bridges.mapping import ColumnMapping
    from beliefstream.streams.local.offline_log import Log


@grouped
def fuse(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-",
            help="observations, priors and resets, JSON lines; or observations, CSV, Parquet or MCAP",
        ),
    ],
    table: Table,
    sensors: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|JSON", help="sensor definitions, JSON or YAML", show_default="those in FILE"
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|JSON", help="model definitions, JSON or YAML", show_default="those in FILE"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "--output",
            metavar="FILE",
            help="posteriors: JSON lines, or CSV, Parquet or MCAP by its name",
            show_default="standard output",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="exit with 1 before fusing if a line cannot be used, or if there is no observation",
        ),
    ] = False,
) -> None:
    """Fuse a log without Kafka: read observations and priors in any order, and write posteriors.

    The rules are those of a worker. A line that cannot be used is reported on standard error and skipped; exits with 1
    if no line can be used. FILE may also have definitions, anywhere: a line with `motion` is a model, one with `kind` a
    sensor. A line with `reset` forgets the lines of its entity above it. A table (CSV, Parquet, or NDJSON with --map)
    has only observations.

    Example: beliefstream fuse log.jsonl --sensors sensors.json --models models.json --out posteriors.jsonl

    Example: beliefstream fuse log.csv --map time=t --map value=x,y --sensors sensors.yaml --models models.yaml
    --output posteriors.csv
    """
    from beliefstream.streams.bridges.posterior_tables import open_posteriors
    from beliefstream.streams.bridges.tables import format_of
    from beliefstream.streams.definitions import own_code

    with loading():
        from beliefstream.streams.local.offline_log import Log

    keep_inputs(out, file, sensors, models, table.mapping)
    columns = table.read()
    settings = settings_for()
    own_code.load(settings.measurements)
    log = Log(settings.maximum_message_bytes, settings.future_tolerance)
    format = table.file_format or format_of(file, FileFormat.ndjson)
    unusable = _fill(log, file, format, columns, sensors, models)
    resets = f"{counted(log.resets, 'reset')}, " if log.resets else ""
    repeated = f"{log.repeated} repeated, " if log.repeated else ""
    found = (
        f"{counted(log.observations, 'observation')}, {counted(log.priors, 'prior')}, {resets}{repeated}"
        f"{counted(unusable, 'unusable line')}"
    )
    if unusable and (strict or not log.entities):
        raise CommandError(f"{found}; nothing was fused")
    empty = (
        "" if log.entities else f"{options.name_of(file)}: there is no observation in it; nothing was fused"
    )
    if empty and strict:
        raise CommandError(empty)
    from beliefstream.streams.worker.entity_batch import NOT_FINITE
    from beliefstream.streams.worker.updater import make_updater

    updater = make_updater(settings)
    count = 0
    with open_posteriors(out) as output, progress_bar("posteriors") as progress:
        task = progress.add_task("fuse", total=log.posteriors, note="")
        for fused in log.fuse(updater):
            output.write(fused.to_json())
            count += 1
            progress.advance(task)
    for name in log.failed:
        print(f"{name}: numerical: {NOT_FINITE}", file=sys.stderr)
    if empty:
        print(empty, file=sys.stderr)
    print(f"{found}; {counted(count, 'posterior')} of {counted(log.entities, 'entity')}", file=sys.stderr)


def _fill(
    log: Log, file: str, format: FileFormat, columns: ColumnMapping, sensors: str | None, models: str | None
) -> int:
    """Fill the log with definitions, then with a file, and return how many of its lines cannot be used."""
    from beliefstream.streams.bridges.definition_files import parse_definitions
    from beliefstream.streams.bridges.mapping import ColumnMapping
    from beliefstream.streams.bridges.tables import begins_object, no_json_lines

    as_messages = format is FileFormat.ndjson and columns == ColumnMapping()
    lines = _lines(file) if as_messages else []
    parse_definitions(read_definitions(sensors) if sensors else (), log.define_sensor)
    parse_definitions(read_definitions(models) if models else (), log.define_model)
    if not as_messages:
        return _read_table(log, file, format, columns)
    if lines and not any(begins_object(line) for _, line in lines):  # as in a CSV file
        raise CommandError(no_json_lines(options.name_of(file)))
    return _read(log, lines)


def _read_table(log: Log, file: str, format: FileFormat, columns: ColumnMapping) -> int:
    """Fill the log with the rows of a table, and return how many cannot be used."""
    from beliefstream.schemas import Unusable
    from beliefstream.streams.bridges.mapping import Found, observations
    from beliefstream.streams.bridges.tables import open_table

    unusable = 0
    with closing(open_table(file, format, columns.bag)) as table:
        for found in observations(table, columns):
            try:
                if isinstance(found.observation, Unusable):
                    raise found.observation
                log.add(found.observation.to_json(), found.place.replace(" ", ":", 1))
            except Unusable as fault:
                unusable += 1
                options.tell(Found(found.place, fault))
    return unusable


def _lines(file: str) -> list[tuple[int, bytes]]:
    raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    return [(number, line) for number, line in enumerate(raw.split(b"\n"), 1) if line.strip()]


def _read(log: Log, lines: list[tuple[int, bytes]]) -> int:
    """Fill the log, definitions first, and return how many lines cannot be used."""
    from beliefstream.schemas import Unusable

    unusable = 0
    kinds = [(_kind(line), number, line) for number, line in lines]
    for kind, number, line in sorted(kinds, key=lambda each: each[0] == "message"):
        try:
            if kind == "model":
                log.define_model(line)
            elif kind == "sensor":
                log.define_sensor(line)
            else:
                log.add(line, f"line:{number}")
        except Unusable as fault:
            unusable += 1
            print(f"line {number}: {fault.reason}: {fault.detail}", file=sys.stderr)
    return unusable


def _kind(line: bytes) -> str:
    import orjson

    try:
        content = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "message"
    if not isinstance(content, dict):
        return "message"
    return "model" if "motion" in content else "sensor" if "kind" in content else "message"
