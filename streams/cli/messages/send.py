"""`beliefstream send`."""

from __future__ import annotations

from typing import Annotated

import typer

from beliefstream.streams.bridges.formats import FileFormat
from beliefstream.streams.cli.options import Brokers, Table
from beliefstream.streams.cli.options.groups import grouped
from beliefstream.streams.cli.setup import settings_for


@grouped
def send(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE|-", help="CSV, Parquet or NDJSON, a row an observation; or a bag, MCAP"),
    ],
    table: Table,
    sort: Annotated[
        bool, typer.Option("--sort", help="send in order of time; reads the whole file first")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="exit with 1 before sending if a row cannot be used, or if there is none"
        ),
    ] = False,
    brokers: Brokers = None,
) -> None:
    """Send the observations of a file as fast as the broker accepts them.

    A row that cannot be used is reported on standard error, with its line, field and value, and skipped; exits with 1
    if no row can be used. It does not wait for workers: what they refuse becomes dead letters.

    Example: beliefstream send drive.mcap --set entity=rover

    Example: beliefstream send log.csv --map time=t --map entity=id --map value=x,y --set sensor=gps
    """
    from beliefstream.streams.bridges.tables import format_of
    from beliefstream.streams.cli.messages.send_rows import send_rows

    format = table.file_format or format_of(file, FileFormat.ndjson)
    send_rows(settings_for(brokers), file, format, table.read(), sort, strict)
