"""`beliefstream send`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.bridges.formats import FileFormat
from beliefstream.streams.cli import options
from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.output import progress_bar
from beliefstream.streams.cli.sending import SOURCE
from beliefstream.streams.cli.setup import CommandError, opened, settings_for

if TYPE_CHECKING:
    from beliefstream.streams.bridges.mapping import Found
    from beliefstream.streams.bridges.sending import Sent
    from beliefstream.streams.settings import Settings

TICK = 500  # rows between two steps of the progress bar
_EMPTY = "there is no observation in it; nothing was sent"
BATCHES = {"linger_ms": 50, "batch_size": 256 * 1024}  # a file does not mind waiting: few, large requests


def send(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE|-", help="CSV, Parquet or NDJSON, a row an observation; or a bag, MCAP"),
    ],
    map: options.Map = None,
    set: options.Set = None,
    mapping: options.MappingFile = None,
    time_unit: options.Unit = None,
    file_format: options.Formatted = None,
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
    from beliefstream.streams.bridges.mapping import observations
    from beliefstream.streams.bridges.sending import Sent, in_order_of_time
    from beliefstream.streams.bridges.tables import format_of, open_table

    columns = options.column_mapping(map, set, mapping, time_unit)
    format = file_format or format_of(file, FileFormat.ndjson)
    settings = settings_for(brokers)
    with closing(open_table(file, format, columns.bag)) as table:
        found: Iterable[Found] = observations(table, columns)
        if sort:
            found = in_order_of_time(found)
        if strict:
            found = _all_usable(table.name, found)
        sent, began = Sent(), time.monotonic()
        stopped = _send(settings, found, table.size, sent)
    _report(table.name, sent, time.monotonic() - began, stopped)


def _all_usable(name: str, found: Iterable[Found]) -> list[Found]:
    """All rows; raises CommandError if one of them cannot be used, or if there is none."""
    from beliefstream.schemas import Unusable

    rows = list(found)
    if not rows:
        raise CommandError(f"{name}: {_EMPTY}")
    bad = [each for each in rows if isinstance(each.observation, Unusable)]
    for each in bad:
        options.tell(each)
    if bad:
        raise CommandError(f"{name}: {len(bad)} of {len(rows)} rows cannot be used; nothing was sent")
    return rows


def _send(settings: Settings, found: Iterable[Found], size: int | None, sent: Sent) -> bool:
    """Send, and wait until the broker has everything; returns whether Ctrl-C has stopped it."""
    from beliefstream.streams.bridges.sending import send as send_all
    from beliefstream.streams.client import BrokerUnavailable, ObservationProducer

    try:
        with (
            opened(
                ObservationProducer, settings, settings.observations, source=SOURCE, **BATCHES
            ) as producer,
            progress_bar("rows") as progress,
        ):
            task = progress.add_task("send", total=size, note="")

            def ticking() -> Iterator[Found]:
                for number, each in enumerate(found):
                    if number % TICK == 0:
                        progress.update(task, completed=number)
                    yield each
                progress.update(task, completed=sent.sent + sent.unusable)

            try:
                send_all(ticking(), producer, sent, options.tell)
            except KeyboardInterrupt:
                return True
    except BrokerUnavailable as error:
        raise CommandError(
            f"{error}; sent as far as {sent.place}, and of {sent.sent} observations the broker has "
            f"{sent.acknowledged}"
            if sent.sent
            else f"{error}; nothing was sent"
        ) from None
    return False


def _report(name: str, sent: Sent, seconds: float, stopped: bool) -> None:
    """Say what was sent; raises CommandError if nothing could be, or if it was stopped."""
    found = f"{sent.sent} observations of {sent.entities} entities, {sent.unusable} rows that cannot be used"
    if sent.unusable and not sent.sent:
        raise CommandError(f"{name}: {found}; nothing was sent")
    if sent.behind:
        print(
            f"{sent.behind} observations came up to {sent.furthest:g} s after a later one of their entity: beyond the "
            "model's lateness window they become dead letters; --sort sends in order of time",
            file=sys.stderr,
        )
    if not sent.sent and not stopped:
        print(f"{name}: {_EMPTY}", file=sys.stderr)
    if stopped:
        raise CommandError(f"stopped after {sent.place or 'nothing'}: sent {found}")
    print(f"sent {found}, in {seconds:.1f} s: {sent.sent / max(seconds, 1e-3):.0f}/s")
