"""`beliefstream doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.output import console, counted
from beliefstream.streams.cli.setup import CommandError, settings_for


def doctor(
    url: Annotated[
        list[str] | None,
        typer.Option(help="URL of a worker; may be repeated", show_default="of BELIEFSTREAM_WEB_ADDRESS"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines, not lines for people")] = False,
    brokers: Brokers = None,
) -> None:
    """Check broker, topics, definitions, weights, device, workers, clocks and losses, and say how to fix problems.

    Exits with 1 if there is a problem.

    Example: beliefstream doctor --brokers kafka:9092 --url http://worker-1:8080 --url http://worker-2:8080
    """
    import json
    from dataclasses import asdict

    from beliefstream.streams.cli.doctor.run import Status, examine

    settings = settings_for(brokers)
    colours = {Status.ok: "green", Status.problem: "red", Status.skipped: "yellow"}
    problems = 0
    screen = console()
    for finding in examine(settings, url or [f"http://{settings.web_address}"]):
        problems += finding.status is Status.problem
        if as_json:
            print(json.dumps(asdict(finding), ensure_ascii=False), flush=True)
            continue
        status = f"[{colours[finding.status]}]{finding.status:8}[/]"
        screen.print(f"{status} {finding.subject}: ", end="")
        screen.print(finding.detail, markup=False)
        if finding.remedy:
            screen.print(f"         → {finding.remedy}", markup=False)
    if problems:
        raise CommandError(f"doctor: {counted(problems, 'problem')}")
