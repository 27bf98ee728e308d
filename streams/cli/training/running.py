"""Runs a training: its progress, its log beside the checkpoint, and its end by a signal or in time."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beliefstream.streams.cli.output import progress_bar

if TYPE_CHECKING:
    from beliefstream.inference.training.run import Run

REPORT_EVERY = 20  # steps; --stop-after ends the training then, a signal after any step
SAVE_EVERY = 500  # steps
SMOOTHING = 0.95  # of the losses shown


def run(training: Run[Any], checkpoint: Path, stop_after: float | None) -> bool:
    """Train until the plan is complete or `stop_after` minutes have passed, and return whether it is complete.

    The log of the losses stands beside the checkpoint.
    """
    from beliefstream.inference.training.run import Diverged

    log = checkpoint.with_suffix(".jsonl")
    print(f"checkpoint {checkpoint}, log {log}", file=sys.stderr)
    deadline = time.monotonic() + 60 * stop_after if stop_after is not None else float("inf")
    smoothed: dict[str, float] = {}
    log.parent.mkdir(parents=True, exist_ok=True)
    with _stop_signals() as stopped, log.open("a") as file, progress_bar("steps") as progress:
        task = progress.add_task(
            "train", total=training.plan.steps, completed=training.step, note="the first step takes longest"
        )

        def report(state: dict[str, float]) -> None:
            file.write(json.dumps(state) + "\n")
            file.flush()
            for name, loss in state.items():
                if name.startswith("loss"):
                    dimension = f"{name.removeprefix('loss_')}D" if name != "loss" else ""
                    smoothed[dimension] = SMOOTHING * smoothed.get(dimension, loss) + (1 - SMOOTHING) * loss
            note = " ".join(f"{dimension} {smoothed[dimension]:.3f}" for dimension in sorted(smoothed))
            progress.update(task, completed=int(state["step"]), note=f"loss {note}")
            if time.monotonic() > deadline:
                raise _Stop

        try:
            training.run(report, REPORT_EVERY, SAVE_EVERY, stopped=stopped)
        except _Stop:
            training.save()
        except Exception as error:
            if not stopped or isinstance(error, Diverged):
                raise
            # Ctrl-C in a terminal reaches the compiler of the first step too; the network is of the step before
            print(f"the last step failed: {type(error).__name__}: {error}", file=sys.stderr)
            training.save()
    complete: bool = training.step >= training.plan.steps
    if not complete:
        print(f"stopped at step {training.step} of {training.plan.steps}; the same command continues")
    return complete


class _Stop(Exception):
    """Raised to end a training between two steps."""


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collect the first stop signal in the returned list, so that it interrupts no step; a second one interrupts."""
    came: list[int] = []

    def collect(received: int, _: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(received)

    former = {number: signal.signal(number, collect) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
