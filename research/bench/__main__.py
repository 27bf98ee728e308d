"""`python -m research.bench`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli.main import run
from beliefstream.streams.cli.options import whole_numbers
from beliefstream.streams.cli.setup import CommandError, settings_for

if TYPE_CHECKING:
    from research.bench.end_to_end.site import Site

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    update: bool = typer.Option(True, help="time the update alone"),
    stream: bool = typer.Option(True, help="time a worker end to end, beside an agent that only forwards"),
    latency: bool = typer.Option(True, help="time from an observation sent to its posterior read"),
    late: bool = typer.Option(True, help="measure the cost of late observations and the size of records"),
    contradicted: bool = typer.Option(True, help="measure a fleet that is elsewhere at once"),
    state: bool = typer.Option(
        False, help="measure memory, disk and recovery of many beliefs; takes some minutes"
    ),
    brokers: Annotated[
        str | None,
        typer.Option(
            help="of Apache Kafka, host:port; for --state, and beside the embedded one for --stream and --latency",
            show_default="the embedded broker only",
        ),
    ] = None,
    embedded: bool = typer.Option(True, help="for --stream and --latency: run on the embedded broker"),
    kept: int = typer.Option(100_000, help="for --state: entities, with 8 components each"),
    entities: int = typer.Option(1000, help="for --stream: entities"),
    reports: Annotated[
        str,
        typer.Option(
            metavar="N,...", help="for --stream: observations of each entity, a run for each number"
        ),
    ] = "20,60",
    mixed: bool = typer.Option(
        True,
        help="for --stream: also a run with a tenth of the observations late, and a prior for a hundredth",
    ),
    workers: int = typer.Option(
        1, min=1, help="for --stream: also measure as many workers of one group, beside one of them"
    ),
    rate: float = typer.Option(100.0, min=2, help="for --latency: observations a second"),
    device: Annotated[
        str | None,
        typer.Option(help="cpu or cuda: time the update there by size of the batch, and nothing else"),
    ] = None,
    sizes: Annotated[
        str, typer.Option(metavar="N,...", help="for --device: problems in a batch")
    ] = "64,512,4096",
    gateway: bool = typer.Option(False, "--gateway", help="measure the HTTP gateway, and nothing else"),
    live: bool = typer.Option(False, "--live", help="measure the live page's server, and nothing else"),
    seconds: float = typer.Option(30.0, min=5, help="for --live: seconds with each number of viewers"),
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="also write the results to a file")
    ] = None,
) -> None:
    """Measure speeds, and print them with baselines from the same run, and with the ratios of the last release.

    Example: python -m research.bench --no-stream --no-latency
    """
    from kafka import KafkaConsumer

    from beliefstream.streams.kafka.connection import connect

    # all that can be wrong with the options, before minutes of measuring
    numbers = whole_numbers(reports, "--reports", 1)
    batches = whole_numbers(sizes, "--sizes", 1)
    if device not in (None, "cpu", "cuda"):
        raise CommandError(f"--device: expected cpu or cuda, got {device!r}")
    if json is not None and not json.absolute().parent.is_dir():
        raise CommandError(f"--json: no such directory: {json.absolute().parent}")
    if brokers is not None:
        connect(KafkaConsumer, brokers, settings_for(brokers).client_options).close()
    from rich.console import Console

    from beliefstream.streams.settings import Settings
    from beliefstream.streams.worker.updater import make_updater
    from research.bench import late_observations, tables
    from research.bench.contradicted import measure_contradicted
    from research.bench.devices import measure_device
    from research.bench.end_to_end import workload
    from research.bench.end_to_end.latency import measure_latency
    from research.bench.end_to_end.several_workers import measure_workers
    from research.bench.end_to_end.stream import measure_stream
    from research.bench.results import Results, machine
    from research.bench.update import measure_update
    from research.figures.kept import origin

    console, results = Console(), Results(path=json)
    if device is not None:
        results.devices = measure_device(make_updater(Settings(device=device)), batches)
        results.machine = machine(device)
        console.print(results.machine)
        tables.print_devices(console, results.devices)
        results.save()
        return
    console.print(results.machine)
    if gateway:
        tables.print_gateway(console)
        return
    if live:
        tables.print_live(console, seconds)
        return
    console.print(f"last release: {origin('speed')}")
    if update:
        small = make_updater(Settings(weights="equivariant-16x3"))
        results.updates = measure_update(make_updater(Settings()), small)
        tables.print_updates(console, results.updates)
        results.save()
    if late:
        updater = make_updater(Settings())
        results.late = late_observations.costs(updater)
        tables.print_late(console, results.late)
        tables.print_sizes(console, late_observations.sizes(updater))
        results.save()
    if contradicted:
        results.contradicted = measure_contradicted(make_updater(Settings()))
        tables.print_contradicted(console, results.contradicted)
        results.save()
    if state:
        with _site("embedded" if brokers is None else "kafka", brokers) as site:
            tables.print_state(console, site, kept)
    works = [workload.in_order(entities, number) for number in numbers] if stream else []
    longest = workload.in_order(entities, numbers[-1])
    if stream and mixed:
        works.append(workload.mixed(entities, numbers[0]))
    try:
        for name, is_wanted in (("embedded", embedded), ("kafka", brokers is not None)):
            if is_wanted and (stream or latency):
                with _site(name, brokers) as site:
                    for work in works:
                        console.print(
                            f"{name}: {len(work.observations):,} observations, {work.name} reports an entity"
                        )
                        results.throughputs[name, work.name] = measure_stream(site, work)
                        results.save()
                    for number in (1, workers) if stream and workers > 1 else ():
                        console.print(
                            f"{name}: {number} of {workers} workers, {longest.name} reports an entity"
                        )
                        results.workers[name, number] = measure_workers(site, longest, number)
                        results.save()
                    if latency:
                        results.latencies[name] = measure_latency(site, rate)
                        results.save()
    finally:  # what there is, if a later part fails
        tables.print_stream(console, results)


@contextmanager
def _site(name: str, brokers: str | None) -> Iterator[Site]:
    from beliefstream.streams.local.broker import EmbeddedBroker
    from research.bench.end_to_end.site import Site

    if name == "embedded":
        with EmbeddedBroker() as broker:
            yield Site(name, broker.bootstrap_servers)
    else:
        yield Site(name, brokers or "")


if __name__ == "__main__":
    run(app, "python -m research.bench", sys.argv[1:])
