"""`beliefstream dead-letters`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from beliefstream.streams.cli.options import Brokers, Since, moment_since
from beliefstream.streams.cli.options.groups import grouped
from beliefstream.streams.cli.output import AsJson
from beliefstream.streams.cli.setup import CommandError, settings_for

SHOWN = 100  # letters, without --limit


@dataclass(frozen=True)
class Selected:
    """Which dead letters are meant."""

    reason: Annotated[
        list[str] | None, typer.Option(metavar="REASON", help="only with this reason; may be repeated")
    ] = None
    sensor: Annotated[
        list[str] | None, typer.Option(metavar="SENSOR", help="only of this sensor; may be repeated")
    ] = None
    entity: Annotated[
        list[str] | None, typer.Option(metavar="ENTITY", help="only of this entity, or with this key")
    ] = None
    since: Since = None
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="only this many, the newest", show_default=f"{SHOWN}; all with --replay"),
    ] = None


@dataclass(frozen=True)
class Again:
    """Whether they are sent again."""

    replay: Annotated[bool, typer.Option("--replay", help="send them again to their source topics")] = False
    yes: Annotated[bool, typer.Option("--yes", help="with --replay: do not ask")] = False
    force: Annotated[
        bool, typer.Option("--force", help="with --replay: include those that were sent again before")
    ] = False


@grouped
def dead_letters(
    as_json: AsJson,
    selected: Selected,
    again: Again,
    summary: Annotated[
        bool, typer.Option("--summary", help="count them by reason, and say what to do")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", help="show new ones (or those from --since on), until Ctrl-C")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="show key and value completely")] = False,
    brokers: Brokers = None,
) -> None:
    """Show messages that could not be used, with the reasons, or send them again after a fix.

    Without --force, a message that was sent again before is not sent another time, even if it failed again.

    Example: beliefstream dead-letters --summary --since 1h; after `sensors set`: beliefstream dead-letters
    --replay --reason unknown_sensor --sensor beacon-1
    """
    from beliefstream.streams.cli.messages import dead_letters_output as output
    from beliefstream.streams.client import Selection

    if summary + follow + again.replay > 1:
        raise CommandError("use only one of --summary, --follow and --replay")
    if (again.yes or again.force) and not again.replay:
        raise CommandError("--yes and --force need --replay")
    reasons = {_reason(each) for each in selected.reason or ()}
    chosen = Selection(
        reasons, {*(selected.sensor or ())}, {*(selected.entity or ())}, moment_since(selected.since)
    )
    settings = settings_for(brokers)
    limit = selected.limit
    if again.replay:
        output.send_again(settings, chosen, limit, force=again.force, ask=not again.yes, as_json=as_json)
    elif summary:
        output.summarise(settings, chosen, as_json)
    elif follow:
        output.follow(settings, chosen, limit, full, as_json)
    else:
        output.show(settings, chosen, limit or SHOWN, full, as_json)


def _reason(text: str) -> Any:
    from beliefstream.schemas import Reason

    try:
        return Reason(text)
    except ValueError:
        raise CommandError(f"--reason: expected one of {', '.join(Reason)}, got {text!r}") from None
