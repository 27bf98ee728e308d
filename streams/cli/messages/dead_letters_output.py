"""Prints dead letters, shortened and without control characters."""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from beliefstream.streams.cli.output import Format, console
from beliefstream.streams.cli.setup import CommandError, opened

if TYPE_CHECKING:
    from beliefstream.schemas import Reason
    from beliefstream.streams.client import Replayed, Selection
    from beliefstream.streams.client.dead_letters import ReceivedDeadLetter
    from beliefstream.streams.client.replaying import ReplayHistory, ReplayPlan
    from beliefstream.streams.settings import Settings

SHOWN_CHARACTERS = 200  # of key and value
NAMES = 3  # sensors listed for each reason in the summary
NAME_CHARACTERS = 80


def fields(received: ReceivedDeadLetter, full: bool = False) -> dict[str, Any]:
    """Return the JSON fields of a letter; key and value are complete if `full` is set."""
    from beliefstream.schemas import to_rfc3339

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
        "dead_letter": f"{place.topic}/{place.partition}:{place.offset}",
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
    from rich.text import Text

    from beliefstream.schemas import printable

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
    from beliefstream.schemas import printable

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


class DeadLetterSummary:
    """Dead letters counted by reason."""

    def __init__(self, letters: Iterable[ReceivedDeadLetter]) -> None:
        self._found: dict[Reason, _OfReason] = {}
        for received in letters:
            entry = self._found.setdefault(received.letter.reason, _OfReason())
            entry.count += 1
            entry.failed_again += received.letter.replay_of is not None
            entry.newest = fields(received)
            entry.messages.add(received.id)
            if received.sensor is not None:
                entry.sensors[received.sensor[:NAME_CHARACTERS]] += 1

    def rows(self, history: ReplayHistory) -> list[dict[str, Any]]:
        """Return a row for each reason, the most frequent first."""
        from beliefstream.streams.cli.remedies import remedy_for

        ordered = sorted(self._found.items(), key=lambda item: (-item[1].count, item[0]))
        return [
            {
                "reason": reason.value,
                "count": entry.count,
                "sent_again": len(entry.messages & history.sent.keys()),
                "failed_again": entry.failed_again,
                "newest": entry.newest["time"],
                "sensors": [name for name, _ in entry.sensors.most_common(NAMES)],
                "mend": remedy_for(reason),
            }
            for reason, entry in ordered
        ]


def write_summary(rows: Iterable[dict[str, Any]]) -> None:
    """Print the summary as text."""
    from rich.text import Text

    from beliefstream.schemas import printable

    screen = console()
    for row in rows:
        facts = [f"newest {row['newest'][:19]}"]
        facts += [
            f"{row[name]} {name.replace('_', ' ')}" for name in ("sent_again", "failed_again") if row[name]
        ]
        facts += [f"sensors: {printable(', '.join(row['sensors']))}"] if row["sensors"] else []
        screen.print(Text.assemble(f"{row['count']:>8,}  ", (row["reason"], "bold"), f"  {'; '.join(facts)}"))
        screen.print(Text(f"          → {row['mend']}"))


def send_again(
    settings: Settings, chosen: Selection, limit: int | None, *, force: bool, ask: bool, shape: Format
) -> None:
    """Send the selected letters again, and print the result for each.

    Raises CommandError if one was not sent.
    """
    from beliefstream.streams.client import Replayer

    topics = {
        "sources": (settings.observations, settings.priors),
        "definitions": (settings.sensors, settings.models),
    }
    with opened(Replayer, settings, settings.dead_letters, **topics) as replayer:
        with console(errors=True).status("reading"):
            plan = replayer.plan(chosen, limit, force)
        _print_plan(plan)
        if not plan.chosen:
            return
        if ask:
            _ask(len(plan.chosen))
        sent = failed = 0
        for replayed in replayer.send(plan):
            _write(replayed, shape)
            sent += replayed.place is not None
            failed += replayed.place is None
    print(f"{sent} sent again", file=sys.stderr)
    if failed:
        raise CommandError(
            f"{failed} of {sent + failed} messages were not sent, or their result is not known"
        )


def _print_plan(plan: ReplayPlan) -> None:
    """Print the plan on standard error."""
    from beliefstream.schemas import Reason
    from beliefstream.streams.cli.remedies import remedy_for

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
    typer.confirm(f"Send {count} message{'s' * (count != 1)} again?", abort=True, err=True)


def _write(replayed: Replayed, shape: Format) -> None:
    from beliefstream.schemas import printable

    letter, place = replayed.letter, replayed.place
    to = None if place is None else f"{place.topic}/{place.partition}:{place.offset}"
    if shape is Format.json:
        dead = f"{letter.place.topic}/{letter.place.partition}:{letter.place.offset}"
        output: dict[str, Any] = {"source": letter.source, "dead_letter": dead, "reason": letter.reason.value}
        output |= {"entity": letter.entity, "sensor": letter.sensor, "replayed_to": to}
        write_json({**output, "problem": replayed.problem or None})
        return
    names = [
        f"{what} {name[:80]}" for what, name in (("entity", letter.entity), ("sensor", letter.sensor)) if name
    ]
    outcome = f"sent again to {to}" if to else f"not sent: {replayed.problem}"
    print(printable(f"{letter.source}  {letter.reason}  {'  '.join(names)}  {outcome}"), flush=True)
