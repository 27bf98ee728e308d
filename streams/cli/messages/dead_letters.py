"""`beliefstream dead-letters`."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.output import Format, Formatted, console, resolve
from beliefstream.streams.cli.setup import CommandError, opened, settings_for

if TYPE_CHECKING:
    from beliefstream.streams.client import DeadLetterConsumer, Selection
    from beliefstream.streams.settings import Settings

SHOWN = 100  # letters, without --limit
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def dead_letters(
    reason: Annotated[
        list[str] | None, typer.Option(metavar="REASON", help="only with this reason; may be repeated")
    ] = None,
    sensor: Annotated[
        list[str] | None, typer.Option(metavar="SENSOR", help="only of this sensor; may be repeated")
    ] = None,
    entity: Annotated[
        list[str] | None, typer.Option(metavar="ENTITY", help="only of this entity, or with this key")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="only from this time on: 90s, 15m, 2h, 7d ago, epoch seconds or RFC 3339"
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="only this many, the newest", show_default=f"{SHOWN}; all with --replay"),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="count them by reason, and say what to do")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="show new ones (or those from --since on), until Ctrl-C")
    ] = False,
    replay: Annotated[bool, typer.Option("--replay", help="send them again to their source topics")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="with --replay: do not ask")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="with --replay: include those that were sent again before")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="show key and value completely")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="short for --format json")] = False,
    format: Formatted = None,
    brokers: Brokers = None,
) -> None:
    """Show messages that could not be used, with the reasons, or send them again after a fix.

    Without --force, a message that was sent again before is not sent another time, even if it failed again.

    Example: beliefstream dead-letters --summary --since 1h; after `sensors set`: beliefstream dead-letters
    --replay --reason unknown_sensor --sensor beacon-1
    """
    from beliefstream.streams.client import Selection

    if summary + follow + replay > 1:
        raise CommandError("use only one of --summary, --follow and --replay")
    if (yes or force) and not replay:
        raise CommandError("--yes and --force need --replay")
    reasons = {_reason(each) for each in reason or ()}
    chosen = Selection(reasons, {*(sensor or ())}, {*(entity or ())}, _since(since))
    shape = resolve(Format.json if as_json else format)
    settings = settings_for(brokers)
    if replay:
        from beliefstream.streams.cli.messages.dead_letters_output import send_again

        send_again(settings, chosen, limit, force=force, ask=not yes, shape=shape)
    elif summary:
        _summarise(settings, chosen, shape)
    elif follow:
        _follow(settings, chosen, limit, full, shape)
    else:
        _list(settings, chosen, limit or SHOWN, full, shape)


def _reason(text: str) -> Any:
    from beliefstream.schemas import Reason

    try:
        return Reason(text)
    except ValueError:
        raise CommandError(f"--reason: expected one of {', '.join(Reason)}, got {text!r}") from None


def _since(text: str | None) -> float:
    """Parse the option --since as seconds since the epoch."""
    from beliefstream.schemas import from_rfc3339

    now = time.time()
    if text is None:
        return float("-inf")
    if (duration := _DURATION.fullmatch(text)) is not None:
        return now - float(duration[1]) * _SECONDS[duration[2]]
    try:
        try:
            moment = float(text)
        except ValueError:
            moment = from_rfc3339(text)
    except ValueError:
        wanted = "expected 90s, 15m, 2h, 7d, seconds since the epoch or RFC 3339 with an offset"
        raise CommandError(f"--since: {wanted}, got {text!r}") from None
    if not moment <= now:
        raise CommandError(f"--since: {text!r} is in the future")
    return moment


def _consumer(settings: Settings, chosen: Selection, **where: Any) -> DeadLetterConsumer:
    from beliefstream.streams.client import DeadLetterConsumer

    if chosen.since != float("-inf"):
        where["since"] = chosen.since
    where |= {"reasons": chosen.reasons, "sensors": chosen.sensors, "entities": chosen.entities}
    return opened(DeadLetterConsumer, settings, settings.dead_letters, **where)


def _list(settings: Settings, chosen: Selection, limit: int, full: bool, shape: Format) -> None:
    from beliefstream.streams.cli.messages.dead_letters_output import replay_fields, write_json, write_text
    from beliefstream.streams.client.replaying import ReplayHistory

    found, count, consumer = _newest(settings, chosen, limit, full, whole=not chosen.is_everything)
    if consumer.replays or consumer.skipped:
        # notes are among the newest records, and may have taken the place of letters
        found, count, consumer = _newest(settings, chosen, limit, full, whole=True)
    history = ReplayHistory.of(consumer.replays)
    write = write_json if shape is Format.json else write_text
    for output, identity in found:
        write({**output, **replay_fields(history, identity)})
    _print_rest(consumer)
    if not count:
        print("no dead letters", file=sys.stderr)
    elif count > limit:
        print(f"older ones are not shown; --limit shows more than {limit}", file=sys.stderr)


def _newest(
    settings: Settings, chosen: Selection, limit: int, full: bool, whole: bool
) -> tuple[Iterable[tuple[dict[str, Any], str]], int, DeadLetterConsumer]:
    """Return the newest letters with their ids, how many were read, and the closed consumer.

    Reads the `whole` topic, or only the newest records of each partition.
    """
    from beliefstream.streams.cli.messages.dead_letters_output import fields

    where: dict[str, Any] = {"from_beginning": True} if whole else {"last": limit + 1}
    found: deque[tuple[dict[str, Any], str]] = deque(maxlen=limit)
    count = 0
    with console(errors=True).status("reading"), _consumer(settings, chosen, **where) as consumer:
        for received in consumer.stored():
            found.append((fields(received, full), received.id))
            count += 1
    return found, count, consumer


def _print_rest(consumer: DeadLetterConsumer) -> None:
    if consumer.skipped:
        message = f"{consumer.skipped} records of {consumer.topic} are no dead letters"
        print(message, file=sys.stderr)


def _follow(settings: Settings, chosen: Selection, limit: int | None, full: bool, shape: Format) -> None:
    from beliefstream.streams.cli.messages.dead_letters_output import fields, write_json, write_text

    write = write_json if shape is Format.json else write_text
    with _consumer(settings, chosen) as consumer:
        try:
            for number, received in enumerate(consumer, 1):
                write(fields(received, full))
                if number == limit:
                    return
        except KeyboardInterrupt:
            return


def _summarise(settings: Settings, chosen: Selection, shape: Format) -> None:
    from beliefstream.streams.cli.messages.dead_letters_output import (
        DeadLetterSummary,
        write_json,
        write_summary,
    )
    from beliefstream.streams.client.replaying import ReplayHistory

    with console(errors=True).status("reading"), _consumer(settings, chosen, from_beginning=True) as consumer:
        counted = DeadLetterSummary(consumer.stored())
    rows = counted.rows(ReplayHistory.of(consumer.replays))
    _print_rest(consumer)
    if not rows:
        print("no dead letters", file=sys.stderr)
    elif shape is Format.json:
        for row in rows:
            write_json(row)
    else:
        write_summary(rows)
