"""`beliefstream contract`, `doctor` and `settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from beliefstream.streams.cli.common import (
    Brokers,
    CommandError,
    Format,
    Formatted,
    console,
    resolve,
    settings_for,
)


def contract(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="made if it is not there")] = Path(
        "contract"
    ),
) -> None:
    """Write the contract of the topics: a JSON Schema for each message and an AsyncAPI 3 document.

    Example: beliefstream contract contract/
    """
    from beliefstream.schemas.contract import write

    for path in write(directory):
        print(path)


def doctor(
    url: Annotated[
        list[str] | None,
        typer.Option(
            help="of a worker; once for each of them", show_default="of BELIEFSTREAM_WEB_HOST and _PORT"
        ),
    ] = None,
    brokers: Brokers = None,
) -> None:
    """Look at broker, topics, definitions, weights, device, workers, clocks and losses: what is wrong, how to fix it.

    Exits with 1 if there is a problem.

    Example: beliefstream doctor --brokers kafka:9092 --url http://worker-1:8080 --url http://worker-2:8080
    """
    from beliefstream.streams.cli.doctor.run import Status, examine

    settings = settings_for(brokers)
    colours = {Status.ok: "green", Status.problem: "red", Status.skipped: "yellow"}
    problems = 0
    screen = console()
    for finding in examine(settings, url or [f"http://{settings.web_host}:{settings.web_port}"]):
        problems += finding.status is Status.problem
        status = f"[{colours[finding.status]}]{finding.status.value:8}[/]"
        screen.print(f"{status} {finding.subject}: ", end="")
        screen.print(finding.detail, markup=False)
        if finding.remedy:
            screen.print(f"         → {finding.remedy}", markup=False)
    if problems:
        raise CommandError(f"doctor: {problems} problem{'s' if problems > 1 else ''}")


def settings(format: Formatted = None) -> None:
    """List the environment variables that set up workers and commands; a file .env is read too.

    Example: BELIEFSTREAM_DEVICE=cuda beliefstream settings
    """
    import json

    from beliefstream.streams.settings import Settings

    current = settings_for()
    prefix = str(Settings.model_config["env_prefix"])
    rows = [
        {
            "variable": f"{prefix}{name.upper()}",
            "description": field.description,
            "default": str(field.get_default(call_default_factory=True)),
            "current": str(getattr(current, name)),
        }
        for name, field in Settings.model_fields.items()
    ]
    if resolve(format) is Format.json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return
    from rich.table import Table

    table = Table("variable", "description", "default", "current")
    for row in rows:
        changed = row["current"] != row["default"]
        table.add_row(*(str(value) for value in row.values()), style="bold" if changed else "")
    console().print(table)
