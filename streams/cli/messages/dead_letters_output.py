"""Reads dead letters, prints them shortened and without control characters, and sends them again."""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import typer
from rich.text import Text

from beliefstream.schemas import Reason, printable, to_rfc3339
from beliefstream.streams.cli.output import console, counted
from beliefstream.streams.cli.remedies import remedy_for
from beliefstream.streams.cli.setup import CommandError, opened
from beliefstream.streams.client import (
    DeadLetterConsumer,
    ReceivedDeadLetter,
    Replayed,
    Replayer,
    Selection,
)
from beliefstream.streams.client.replaying import ReplayHistory, ReplayPlan
from beliefstream.streams.settings import Settings

SHOWN_CHARACTERS = 200  # of key and value
NAMES = 3  # sensors listed for each reason in the summary
NAME_CHARACTERS = 80


def fields(received: ReceivedDeadLetter, full: bool = False) -> dict[str, Any]:
    """Return the JSON fields of a letter; key and value are complete if `full` is set."""
    letter, place = received.letter, received.place
    most = None if full else SHOWN_CHARACTERS
    return {
        "time": to_rfc3339(min(max(received.time, 0.0), 253_402_300_799.0)),
        "reason": letter.reason.value,
        "detail": letter.detail,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "entity": _name(received.entity),
        "sensor": _name(received.sensor),
        **_content("key", letter.key, most),
        **_content("value", letter.value, most),
        "bytes": len(letter.value or b""),
        "dead_letter": str(place),
        "replay_of": letter.replay_of,
        **({} if letter.mqtt_topic is None else {"mqtt_topic": letter.mqtt_topic}),
    }


def _name(text: str | None) -> str | None:
    return None if text is None else text[:NAME_CHARACTERS]


def _content(name: str, content: bytes | None, most: int | None) -> dict[str, Any]:
    """Return a field with the content as text or in base64, and another field if it is cut."""
    if content is None:
        return {name: None}
    part = content if most is None else content[: 4 * most]
    try:
        text = part.decode()
    except UnicodeDecodeError as error:
        if len(part) == len(content) or error.start < len(part) - 3:
            part = part[:most]
            cut = {f"{name}_is_cut": True} if len(part) < len(content) else {}
            return {f"{name}_base64": base64.b64encode(part).decode(), **cut}
        text = part[: error.start].decode()  # the cut splits a character
    cut = {f"{name}_is_cut": True} if len(text[:most].encode()) < len(content) else {}
    return {name: text[:most], **cut}


def replay_fields(history: ReplayHistory, identity: str) -> dict[str, Any]:
    """Return the JSON fields that say whether a letter was sent again, and its new place."""
    if identity in history.sent:
        return {"replay": "sent", "replayed_to": history.sent[identity]}
    return {"replay": "interrupted"} if identity in history.begun else {}


def write_json(output: dict[str, Any]) -> None:
    """Print one line of ASCII without control characters."""
    print(json.dumps(output), flush=True)


def write_text(output: dict[str, Any]) -> None:
    """Print three lines: reason and source, the detail, and the message."""
    parts = [f"{output['topic']} {output['partition']}:{output['offset']}"]
    if "mqtt_topic" in output:
        parts = [f"{output['topic']} {printable(output['mqtt_topic'])}"]
    parts += [
        f"{name} {printable(output[name])}" for name in ("entity", "sensor") if output[name] is not None
    ]
    if output["replay_of"] is not None:
        parts.append(f"failed again after a replay of {printable(output['replay_of'])}")
    if "replay" in output:
        to = output.get("replayed_to")
        parts.append(f"sent again to {printable(to)}" if to else "a replay of it was interrupted")
    head = Text.assemble(f"{output['time'][:23]}  ", (output["reason"], "bold"), f"  {'  '.join(parts)}")
    screen = console()
    for line in (head, Text(f"    {printable(output['detail'])}"), Text(f"    {_message(output)}")):
        screen.print(line, soft_wrap=True)


def _message(output: dict[str, Any]) -> str:
    if "value_base64" in output:
        content = base64.b64decode(output["value_base64"]).decode(errors="backslashreplace")
        content = content if "value_is_cut" not in output else content[:SHOWN_CHARACTERS]
    elif output["value"] is None:
        return "no value"
    else:
        content = output["value"]
    rest = f" ... ({output['bytes']:,} bytes)" if "value_is_cut" in output else ""
    return f"{printable(content)}{rest}"


@dataclass
class _OfReason:
    count: int = 0
    failed_again: int = 0
    newest: dict[str, Any] = field(default_factory=dict)
    sensors: Counter[str] = field(default_factory=Counter)
    messages: set[str] = field(default_factory=set)


def summary_rows(consumer: DeadLetterConsumer) -> list[dict[str, Any]]:
    """Return a row for each reason of the consumer's stored letters, the most frequent first."""
    found: dict[Reason, _OfReason] = defaultdict(_OfReason)
    for received in consumer.stored():
        entry = found[received.letter.reason]
        entry.count += 1
        entry.failed_again += received.letter.replay_of is not None
        entry.newest = fields(received)
        entry.messages.add(received.id)
        if received.sensor is not None:
            entry.sensors[received.sensor[:NAME_CHARACTERS]] += 1
    sent = ReplayHistory.of(consumer.replays).sent.keys()
    return [
        {
            "reason": reason.value,
            "count": entry.count,
            "sent_again": len(entry.messages & sent),
            "failed_again": entry.failed_again,
            "newest": entry.newest["time"],
            "sensors": [name for name, _ in entry.sensors.most_common(NAMES)],
            "mend": remedy_for(reason),
        }
        for reason, entry in sorted(found.items(), key=lambda item: (-item[1].count, item[0]))
    ]


def write_summary(rows: Iterable[dict[str, Any]]) -> None:
    """Print the summary as text."""
    screen = console()
    for row in rows:
        facts = [f"newest {row['newest'][:19]}"]
        facts += [
            f"{row[name]} {name.replace('_', ' ')}" for name in ("sent_again", "failed_again") if row[name]
        ]
        facts += [f"sensors: {printable(', '.join(row['sensors']))}"] if row["sensors"] else []
        screen.print(Text.assemble(f"{row['count']:>8,}  ", (row["reason"], "bold"), f"  {'; '.join(facts)}"))
        screen.print(Text(f"          → {row['mend']}"))


def _consumer(settings: Settings, chosen: Selection, **where: Any) -> DeadLetterConsumer:
    if chosen.since != float("-inf"):
        where["since"] = chosen.since
    where |= {"reasons": chosen.reasons, "sensors": chosen.sensors, "entities": chosen.entities}
    return opened(DeadLetterConsumer, settings, settings.names.dead_letters, **where)


def show(settings: Settings, chosen: Selection, limit: int, full: bool, as_json: bool) -> None:
    """Print the newest letters, oldest first."""
    found, count, consumer = _newest(settings, chosen, limit, full, whole=not chosen.is_everything)
    if consumer.replays or consumer.skipped:
        # notes are among the newest records, and may have taken the place of letters
        found, count, consumer = _newest(settings, chosen, limit, full, whole=True)
    history = ReplayHistory.of(consumer.replays)
    write = write_json if as_json else write_text
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
    last = None if whole else limit + 1
    found: deque[tuple[dict[str, Any], str]] = deque(maxlen=limit)
    count = 0
    reading = console(errors=True).status("reading")
    with reading, _consumer(settings, chosen, from_beginning=True, last=last) as consumer:
        for received in consumer.stored():
            found.append((fields(received, full), received.id))
            count += 1
    return found, count, consumer


def _print_rest(consumer: DeadLetterConsumer) -> None:
    if consumer.skipped:
        message = f"not dead letters: {counted(consumer.skipped, 'record')} of {consumer.topic}"
        print(message, file=sys.stderr)


def follow(settings: Settings, chosen: Selection, limit: int | None, full: bool, as_json: bool) -> None:
    """Print letters as they come, until Ctrl-C or `limit`."""
    write = write_json if as_json else write_text
    with _consumer(settings, chosen) as consumer:
        try:
            for number, received in enumerate(consumer, 1):
                write(fields(received, full))
                if number == limit:
                    return
        except KeyboardInterrupt:
            return


def summarise(settings: Settings, chosen: Selection, as_json: bool) -> None:
    """Print a row for each reason."""
    with console(errors=True).status("reading"), _consumer(settings, chosen, from_beginning=True) as consumer:
        rows = summary_rows(consumer)
    _print_rest(consumer)
    if not rows:
        print("no dead letters", file=sys.stderr)
    elif as_json:
        for row in rows:
            write_json(row)
    else:
        write_summary(rows)


def send_again(
    settings: Settings, chosen: Selection, limit: int | None, *, force: bool, ask: bool, as_json: bool
) -> None:
    """Send the selected letters again, and print the result for each.

    Raises CommandError if one was not sent.
    """
    topics = {
        "sources": (settings.names.observations, settings.names.priors),
        "definitions": (settings.names.sensors, settings.names.models),
    }
    with opened(Replayer, settings, settings.names.dead_letters, **topics) as replayer:
        with console(errors=True).status("reading"):
            plan = replayer.plan(chosen, limit, force)
        _print_plan(plan)
        if not plan.chosen:
            return
        if ask:
            _ask(len(plan.chosen))
        sent = failed = 0
        for replayed in replayer.send(plan):
            _write(replayed, as_json)
            sent += replayed.place is not None
            failed += replayed.place is None
    print(f"{sent} sent again", file=sys.stderr)
    if failed:
        raise CommandError(
            f"{failed} of {sent + failed} messages were not sent, or their result is not known"
        )


def _print_plan(plan: ReplayPlan) -> None:
    """Print the plan on standard error."""
    for cause, count in sorted(plan.skipped.items()):
        print(f"left out: {count} that {cause}", file=sys.stderr)
    if not plan.chosen:
        print("nothing to send again", file=sys.stderr)
        return
    reasons = Counter(letter.reason for letter in plan.chosen)
    topics = Counter(letter.topic for letter in plan.chosen)
    entities = len({letter.entity for letter in plan.chosen})
    counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
    to = ", ".join(f"{count} to {topic}" for topic, count in topics.most_common())
    print(f"to send again: {to}; entities: {entities}; reasons: {counts}", file=sys.stderr)
    if Reason.late in reasons:
        print(f"late messages are late again without a fix: {remedy_for(Reason.late)}", file=sys.stderr)


def _ask(count: int) -> None:
    if not sys.stdin.isatty():
        raise CommandError("--replay asks before it sends; --yes sends without asking")
    typer.confirm(f"Send {counted(count, 'message')} again?", abort=True, err=True)


def _write(replayed: Replayed, as_json: bool) -> None:
    letter, place = replayed.letter, replayed.place
    to = None if place is None else str(place)
    if as_json:
        output: dict[str, Any] = {"source": letter.source, "dead_letter": str(letter.place)}
        output["reason"] = letter.reason.value
        output |= {"entity": letter.entity, "sensor": letter.sensor, "replayed_to": to}
        write_json({**output, "problem": replayed.problem or None})
        return
    names = [
        f"{what} {name[:80]}" for what, name in (("entity", letter.entity), ("sensor", letter.sensor)) if name
    ]
    outcome = f"sent again to {to}" if to else f"not sent: {replayed.problem}"
    print(printable(f"{letter.source}  {letter.reason}  {'  '.join(names)}  {outcome}"), flush=True)
