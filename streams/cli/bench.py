"""`beliefstream bench`."""

from __future__ import annotations

import typer


def bench(
    update: bool = typer.Option(True, help="time the update alone"),
    stream: bool = typer.Option(True, help="time a worker end to end on the embedded broker"),
    entities: int = typer.Option(1000, help="entities of the stream"),
    reports: int = typer.Option(20, help="observations of each entity"),
) -> None:
    """Print speeds beside baselines measured in the same run.

    Example: beliefstream bench --no-stream
    """
    from rich.console import Console
    from rich.table import Table

    from streams.app import make_updater
    from streams.settings import Settings

    console = Console()
    if update:
        from streams.bench.update import measure

        lines = measure(make_updater(Settings()))
        table = Table("one core", "posteriors/s", "× Stone Soup", "what", title="update alone")
        for line in lines:
            table.add_row(
                line.name,
                f"{line.per_second:,.0f}",
                f"{line.per_second / lines[0].per_second:.1f}",
                line.note,
            )
        console.print(table)
    if stream:
        from streams.bench.stream import measure as measure_stream

        fused, echoed, count = measure_stream(entities, reports)
        table = Table(
            "embedded broker", "observations/s", "of the echo", title=f"end to end, {count:,} observations"
        )
        table.add_row("Faust agent that only echoes", f"{echoed:,.0f}", "100 %")
        table.add_row("one worker", f"{fused:,.0f}", f"{fused / echoed:.0%}")
        console.print(table)
