"""Tables of `python -m research.bench`, with the ratios of the last release beside those of now."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from research.bench.contradicted import Contradicted
from research.bench.devices import DeviceSpeed
from research.bench.end_to_end.latency import Latency
from research.bench.end_to_end.site import Site
from research.bench.end_to_end.stream import Throughput
from research.bench.late_observations import Cost, Size
from research.bench.results import Results
from research.bench.update import Speed
from research.figures.kept import figure

BESIDE = "last release"


def beside(now: float, *names: str) -> str:
    """The same figure of the last release, and ours as a multiple of it."""
    then = figure(*names)
    return "–" if then is None else f"{then:.2f} (now × {now / then:.2f})"


def part_of(broker: str) -> str:
    """The part of the kept figures that has those of workers on this broker."""
    return "speed" if broker == "embedded" else broker


def print_updates(console: Console, lines: list[Speed]) -> None:
    """The update alone; the first line is the baseline."""
    table = Table("one core", "posteriors/s", "× Stone Soup", BESIDE, "what", title="update alone")
    for line in lines:
        ratio = line.per_second / lines[0].per_second
        last = beside(ratio, "speed", "of_stone_soup", line.name)
        table.add_row(line.name, f"{line.per_second:,.0f}", f"{ratio:.2f}", last, line.note)
    console.print(table)


def print_stream(console: Console, results: Results) -> None:
    """What has been measured of workers."""
    if results.throughputs:
        print_throughputs(console, results.throughputs)
    if results.workers:
        print_workers(console, results.workers)
    if results.latencies:
        print_latencies(console, results.latencies)


def print_throughputs(console: Console, found: dict[tuple[str, str], Throughput]) -> None:
    """Workers end to end, by broker and workload."""
    table = Table(
        "broker", "reports an entity", "echo/s", "worker/s", "of the echo", BESIDE, "CPU: echo / worker"
    )
    table.title = "end to end, observations a second"
    for (broker, workload), each in found.items():
        table.add_row(
            broker,
            workload,
            f"{each.echo.per_second:,.0f}",
            f"{each.own:,.0f}",
            f"{each.of_the_echo:.2f}",
            beside(each.of_the_echo, part_of(broker), "of_the_echo", broker, workload),
            f"{each.cpu_of_the_echo:.2f}",
        )
    console.print(table)


def print_latencies(console: Console, found: dict[str, Latency]) -> None:
    """From an observation sent to its posterior read."""
    table = Table("broker", "observations/s", "median, ms", BESIDE, "95 %, ms", BESIDE)
    table.title = "observation to posterior"
    for broker, each in found.items():
        then = part_of(broker), "latency_ms", broker
        median = f"{each.median:.1f}", beside(each.median, *then, "median")
        late = f"{each.ninety_five:.1f}", beside(each.ninety_five, *then, "ninety_five")
        table.add_row(broker, f"{each.rate:g}", *median, *late)
    console.print(table)


def print_workers(console: Console, found: dict[tuple[str, int], float]) -> None:
    """Several workers beside one."""
    table = Table("broker", "workers", "observations/s", "× one worker", BESIDE, title="workers of one group")
    for (broker, number), rate in found.items():
        ratio = rate / found[broker, 1]
        last = beside(ratio, part_of(broker), "of_one_worker", broker, str(number))
        table.add_row(broker, str(number), f"{rate:,.0f}", f"{ratio:.2f}", last)
    console.print(table)


def print_devices(console: Console, found: list[DeviceSpeed]) -> None:
    """The update on one device, by size of the batch."""
    table = Table(
        "problems", "in a batch", "posteriors/s", "GPU waits", "GPU memory, MB", title="update alone"
    )
    for each in found:
        table.add_row(
            each.family,
            f"{each.size:,}",
            f"{each.per_second:,.0f}",
            "" if each.waiting is None else f"{each.waiting:.0%}",
            "" if each.memory is None else f"{each.memory / 1e6:,.0f}",
        )
    console.print(table)


def print_state(console: Console, site: Site, entities: int) -> None:
    """Many beliefs: what they cost, and how long they take to restore."""
    from research.bench.state import measure_state

    found = measure_state(site, entities)
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


def print_late(console: Console, found: list[Cost]) -> None:
    """What late observations cost; the first is on time."""
    table = Table("behind the newest", "instants computed", "ms", "× on time", BESIDE)
    table.title = "a late observation"
    for cost in found:
        ratio = cost.milliseconds / found[0].milliseconds
        behind = f"{cost.newer} observations" if cost.newer else "on time"
        last = beside(ratio, "speed", "late", str(cost.newer))
        table.add_row(behind, f"{cost.instants:.1f}", f"{cost.milliseconds:.2f}", f"{ratio:.2f}", last)
    console.print(table)


def print_sizes(console: Console, found: list[Size]) -> None:
    """The sizes of records."""
    table = Table("window, s", "moments", "beliefs", "bytes", title="an entity's record, 2 observations/s")
    for size in found:
        table.add_row(f"{size.window:g}", f"{size.moments:.1f}", f"{size.beliefs:.1f}", f"{size.bytes:,.0f}")
    console.print(table)


def print_contradicted(console: Console, found: Contradicted) -> None:
    """What a fleet costs that is elsewhere at once."""
    table = Table("usual", "contradicted", "of the usual", BESIDE)
    table.title = "every entity elsewhere at once, observations a processor second"
    last = beside(found.share, "speed", "contradicted", "share")
    table.add_row(f"{found.usual:,.0f}", f"{found.contradicted:,.0f}", f"{found.share:.2f}", last)
    console.print(table)


def print_gateway(console: Console) -> None:
    """Observations a second through the HTTP gateway."""
    from research.bench.end_to_end.gateway import measure_gateway

    table = Table("a request", "clients", "a second", "median, ms", "99 %, ms", "gateway, µs", "sender, µs")
    table.title = "HTTP gateway on the embedded broker, every observation acknowledged"
    table.caption = "observations a request and a second; microseconds of CPU time of one observation"
    for load in measure_gateway():
        times = f"{load.median * 1e3:.1f}", f"{load.slowest * 1e3:.1f}"
        costs = f"{load.gateway * 1e6:.0f}", f"{load.sender * 1e6:.0f}"
        table.add_row(str(load.batch), str(load.connections), f"{load.per_second:,.0f}", *times, *costs)
    console.print(table)


def print_live(console: Console, seconds: float) -> None:
    """What viewers of the live page cost."""
    from research.bench.end_to_end.live import measure_live

    table = Table("viewers", "posteriors/s", "frames/s", "delay, ms", "cores", "memory, MB: start", "end")
    table.title = f"live page, 1,000 entities of 8 components, {seconds:g} s each"
    found = measure_live(seconds=seconds)
    for load in found.loads:
        table.add_row(
            str(load.viewers),
            f"{load.posteriors:,.0f}",
            f"{load.frames:.2f}",
            f"{1e3 * load.delay:.0f}",
            f"{load.cores:.3f}",
            f"{load.begin / 1e6:,.0f}",
            f"{load.end / 1e6:,.0f}",
        )
    console.print(table)
    console.print(f"Reading the same posteriors without decoding them takes {found.reading:.3f} of a core.")
