"""Final report of the demo: figures of the run, and the scores of our method and the baselines."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from beliefstream.streams.demo.comparison import Comparison
from beliefstream.streams.demo.crate import CRATE
from beliefstream.streams.demo.scenario import BAD_MESSAGES_AT, MOWER, Schedule
from beliefstream.streams.demo.services import DemonstrationError, WorkerFigures
from beliefstream.streams.demo.tracking import Figures, Tracker
from beliefstream.streams.demo.view import dead_letters, jump_lines, number, recovery_lines, span
from beliefstream.streams.local.broker import GuardedProcess
from beliefstream.streams.scores.measures import Cases

BASELINES_TIMEOUT = 300.0  # seconds after the stream; the baselines need about three minutes of one core


@dataclass(frozen=True, eq=False)
class Result:
    """All data of the report."""

    schedule: Schedule
    tracker: Tracker
    figures: Figures
    worker: WorkerFigures
    comparisons: list[Comparison]
    missing: list[str]  # baselines that have not finished


def wait_for_baselines(process: GuardedProcess, folder: Path, console: Console) -> dict[str, Cases]:
    """Wait for the process of the baselines, and return the answers that it wrote to the folder so far.

    Waits no longer than `BASELINES_TIMEOUT`, and until Ctrl-C: beside other work they may hardly run.

    Raises:
        DemonstrationError: it failed; the end of its log is printed.
    """
    from beliefstream.streams.demo import baselines

    begun, all_of_them, told, is_waiting = time.monotonic(), len(baselines.names()), -1, True
    try:
        with console.status("") as status:
            while process.running and time.monotonic() - begun < BASELINES_TIMEOUT:
                done = len(list(folder.glob("baselines.*.json")))
                if done != told:
                    told = done
                    text = f"waiting for the baselines: {done} of {all_of_them}; Ctrl-C shows what is there"
                    status.update(text)
                    if not console.is_terminal:
                        console.print(text, soft_wrap=True)
                time.sleep(0.1)
    except KeyboardInterrupt:
        is_waiting = False
    found = baselines.load(folder)
    if len(found) < all_of_them and is_waiting and not process.running:
        log = folder / "baselines.log"
        for line in log.read_text(errors="replace").splitlines()[-12:]:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        raise DemonstrationError("the baselines have failed")
    return found


def compare_all(schedule: Schedule, tracker: Tracker, baselines: Mapping[str, Cases]) -> list[Comparison]:
    """Compare the methods on the mower, the drones, and the fleet without the entity whose prior was replaced."""
    from beliefstream.streams.demo.comparison import compare, ours

    titles = {
        MOWER: "mower, real ranges",
        "fleet": "fleet, simulated sensors",
        "drones": "drones in space, ranges and directions",
    }
    comparisons = []
    for name, title in titles.items():
        methods = {
            key.split("/", 1)[1]: each for key, each in baselines.items() if key.startswith(f"{name}/")
        }
        received = ours({entity: tracker.track(entity) for entity in schedule.compared[name]})
        comparisons.append(compare(name, title, received, methods))
    return comparisons


def print_report(result: Result, console: Console) -> None:
    """Print the report."""
    from beliefstream.streams.demo.comparison import table, verdict

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    console.print()
    for text in summary_lines(result):
        say(text)
    for comparison in result.comparisons:
        console.print()
        console.print(table(comparison))
    console.print()
    if compared := [each for each in result.comparisons if len(each.rows) > 1]:
        for text in verdict(compared):
            say(text)
    if result.missing:
        say(f"Not finished: {', '.join(result.missing)}. Other work had the processor.")
    gates = result.schedule.gates
    say(
        "All methods have the same observations, motion model, noise and prior. The position is scored after every "
        f"observation. The scores of the fleet exclude {gates.entity}, because the baselines do not have its replaced "
        "prior."
    )


def summary_lines(result: Result) -> list[str]:
    """Return lines about message counts, speed, dead letters, the replaced prior and the carried crate."""
    figures, worker = result.figures, result.worker
    methods = ", ".join(f"{name} {count}" for name, count in figures.methods.items())
    lines = [
        f"{figures.sent} observations in, {figures.posteriors} posteriors of {figures.entities} entities out, in "
        f"{figures.elapsed:.0f} s: {figures.posteriors / max(figures.elapsed, 1e-9):.0f} updates/s in real time",
        f"latency from sending to receiving the posterior: median {span(figures.latency_median)}, 95 % within "
        f"{span(figures.latency_95)}",
        f"methods: {methods}; mean sample efficiency {number(figures.sample_efficiency)} of 1",
        f"dead letters{'' if has_unexpected_letters(worker) else ', all expected'}: {dead_letters(worker)}",
    ]
    if worker.update_seconds > 0:
        lines.insert(
            1,
            f"the worker ({worker.device}) spent {worker.update_seconds:.1f} s on updates, in {worker.batches} "
            f"batches: {figures.posteriors / worker.update_seconds:.0f} updates/s while updating",
        )
    gates, jump = result.schedule.gates, result.tracker.jump()
    if jump is not None:
        lines.append(
            f'the prior of {gates.entity} was replaced through the topic priors: "seen at the north or at the south '
            f'gate"; it was at the {gates.names[0]}'
        )
        lines += [f"  {text}" for text in jump_lines(jump)]
    return lines + recovery_lines(result.tracker.track(CRATE))


def has_unexpected_letters(worker: WorkerFigures) -> bool:
    """Whether the number of dead letters differs from the number of bad messages that the demo sends."""
    return sum(worker.dead_letters.values()) != len(BAD_MESSAGES_AT)
