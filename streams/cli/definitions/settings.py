"""`beliefstream settings`."""

from __future__ import annotations

from beliefstream.streams.cli.output import AsJson, console
from beliefstream.streams.cli.setup import settings_for


def settings(as_json: AsJson) -> None:
    """List the environment variables that configure workers and commands; a file .env is read too.

    A password or token can be the content of a file, which the same name with _FILE states.

    Example: BELIEFSTREAM_DEVICE=cuda beliefstream settings
    """
    import json

    from beliefstream.streams.settings import Settings, as_text

    current = settings_for()
    prefix = str(Settings.model_config["env_prefix"])
    rows = [
        {
            "variable": f"{prefix}{name.upper()}",
            "description": " ".join((field.description or "").split()),
            "default": as_text(field.default),
            "current": as_text(getattr(current, name)),
        }
        for name, field in Settings.model_fields.items()
    ]
    if as_json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
        return
    from rich.table import Table

    table = Table("variable", "description", "default", "current")
    for row in rows:
        changed = row["current"] != row["default"]
        table.add_row(*(str(value) for value in row.values()), style="bold" if changed else "")
    console().print(table)
