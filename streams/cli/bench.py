"""`beliefstream bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console


def bench(
    update: bool = typer.Option(True, help="time the update alone"),
    stream: bool = typer.Option(True, help="time a worker end to end on the embedded broker"),
    late: bool = typer.Option(True, help="measure the cost of late observations and the size of records"),
    state: bool = typer.Option(
        False, help="measure memory, disk and recovery of many beliefs; takes some minutes"
    ),
    brokers: Annotated[
        str | None, typer.Option(help="for --state, as host:port", show_default="the embedded broker")
    ] = None,
    kept: int = typer.Option(100_000, help="for --state: entities, with 8 components each"),
    entities: int = typer.Option(1000, help="for --stream: entities"),
    reports: int = typer.Option(20, help="for --stream: observations of each entity"),
) -> None:
    """Measure speeds, and print them with baselines from the same run.

    Example: beliefstream bench --no-stream
    """
    from rich.console import Console
    from rich.table import Table

    from beliefstream.streams.settings import Settings
    from beliefstream.streams.worker.updater import make_updater

    console = Console()
    if update:
        from beliefstream.streams.bench.update import measure_update

        lines = measure_update(make_updater(Settings()), make_updater(Settings(weights="equivariant-16x3")))
        table = Table("one core", "posteriors/s", "× Stone Soup", "what", title="update alone")
        for line in lines:
            table.add_row(
                line.name,
                f"{line.per_second:,.0f}",
                f"{line.per_second / lines[0].per_second:.1f}",
                line.note,
            )
        console.print(table)
    if late:
        _print_late(console)
    if state:
        _print_state(console, brokers, kept)
    if stream:
        from beliefstream.streams.bench.stream import measure_stream

        fused, echoed, count = measure_stream(entities, reports)
        table = Table(
            "embedded broker", "observations/s", "of the echo", title=f"end to end, {count:,} observations"
        )
        table.add_row("Faust agent that only echoes", f"{echoed:,.0f}", "100 %")
        table.add_row("one worker", f"{fused:,.0f}", f"{fused / echoed:.0%}")
        console.print(table)


def _print_state(console: Console, brokers: str | None, entities: int) -> None:
    from rich.table import Table

    from beliefstream.streams.bench.state import measure_state
    from beliefstream.streams.local.broker import EmbeddedBroker

    if brokers is None:
        with EmbeddedBroker() as embedded:
            found = measure_state(embedded.bootstrap_servers, True, entities)
    else:
        found = measure_state(brokers, False, entities)
    size, changelog = f"{found.record:,.0f} bytes", f"{found.changelog / 1e6:,.0f} MB"
    table = Table("store", "recovery, s", "start to ready, s", "memory, MB", "disk, MB")
    table.title = f"{found.entities:,} beliefs, {size} each, {changelog} of changelog"
    for each in found.starts:
        table.add_row(
            each.name,
            f"{each.recovery:.1f}",
            f"{each.seconds:.1f}",
            f"{each.resident / 1e6:,.0f}",
            f"{each.disk / 1e6:,.0f}",
        )
    console.print(table)


def _print_late(console: Console) -> None:
    from rich.table import Table

    from beliefstream.streams.bench.late_observations import costs, sizes
    from beliefstream.streams.settings import Settings
    from beliefstream.streams.worker.updater import make_updater

    updater = make_updater(Settings())
    found = costs(updater)
    table = Table("behind the newest", "instants computed", "ms", "× on time", title="a late observation")
    for cost in found:
        ratio = cost.milliseconds / found[0].milliseconds
        behind = f"{cost.newer} observations" if cost.newer else "on time"
        table.add_row(behind, f"{cost.instants:.1f}", f"{cost.milliseconds:.2f}", f"{ratio:.1f}")
    console.print(table)
    table = Table("window, s", "moments", "beliefs", "bytes", title="an entity's record, 2 observations/s")
    for size in sizes(updater):
        table.add_row(f"{size.window:g}", f"{size.moments:.1f}", f"{size.beliefs:.1f}", f"{size.bytes:,.0f}")
    console.print(table)
