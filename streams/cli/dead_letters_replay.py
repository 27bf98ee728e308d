"""`beliefstream dead-letters --replay`."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import typer

from beliefstream.streams.cli.dead_letters_output import write_json
from beliefstream.streams.cli.errors import CommandError
from beliefstream.streams.cli.output import Format, console

if TYPE_CHECKING:
    from beliefstream.streams.client import Replayed, Selection
    from beliefstream.streams.client.replay_plan import ReplayPlan
    from beliefstream.streams.settings import Settings


def send_again(
    settings: Settings, chosen: Selection, limit: int | None, *, force: bool, ask: bool, shape: Format
) -> None:
    """Send the selected letters again, and print the result for each.

    Raises CommandError if one was not sent.
    """
    from beliefstream.streams.client import Replayer

    with Replayer(
        settings.brokers,
        settings.dead_letters,
        sources=(settings.observations, settings.priors),
        definitions=(settings.sensors, settings.models),
        **settings.client_options,
    ) as replayer:
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
