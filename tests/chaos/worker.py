"""A worker with an appointment: it kills or suspends itself at a point where no test could hit it from outside.

`python -m tests.chaos.worker` is `beliefstream worker` with these variables:

- `CHAOS_AIM=POINT:TIMES:ACTION`: at the given pass through the point, ACTION is `kill` (-9) or `stop` (SIGSTOP), after
  a line in the log that begins with `KEPT`. The points, in the order in which a worker comes by: `rebalance`
  (partitions are assigned), `fenced` (it may write, and has not read), `recovery` (it reads the changelog), `restored`
  (it has, and has not sought), then the checkpoints of `streams/worker/fusion.py`.
- `CHAOS_CLOCK=FILE`: the wall clock is off by the seconds in the file, which is looked at on every SIGUSR1.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from beliefstream.streams.kafka.faust.recovery import SafeRecovery
from beliefstream.streams.worker.fusion import CHECKPOINTS, Checkpoint, watch

POINTS = ("rebalance", "fenced", "recovery", "restored", *CHECKPOINTS)
KEPT = "an appointment is kept"
IN_FLIGHT_SECONDS = 0.002  # from handing batches over: they have left, and most are not acknowledged


class Appointment:
    """Where and when, and what then."""

    def __init__(self, aim: str) -> None:
        self.aim = aim
        self.point, times, action = aim.split(":")
        if self.point not in POINTS:
            raise ValueError(f"CHAOS_AIM: {self.point!r} is none of {', '.join(POINTS)}")
        self.times = int(times)
        self.signal = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}[action]
        self._passed: Counter[str] = Counter()

    def pass_by(self, point: str) -> None:
        """Keeps the appointment if this is the place and the time."""
        self._passed[point] += 1
        if point == self.point and self._passed[point] == self.times:
            os.write(2, f"{KEPT}: {self.aim}\n".encode())  # nothing is buffered
            os.kill(os.getpid(), self.signal)


def before(owner: Any, name: str, call: Callable[..., Any]) -> None:
    """Has a coroutine function of a class call something first."""
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def changed(*arguments: Any, **options: Any) -> Any:
        call(*arguments, **options)
        return await original(*arguments, **options)

    setattr(owner, name, changed)


def after(owner: Any, name: str, call: Callable[[], Any]) -> None:
    """Has a coroutine function of a class call something when it has ended."""
    original: Callable[..., Awaitable[Any]] = getattr(owner, name)

    async def changed(*arguments: Any, **options: Any) -> Any:
        outcome = await original(*arguments, **options)
        call()
        return outcome

    setattr(owner, name, changed)


def keep(appointment: Appointment) -> None:
    """Puts the points into the worker's code."""
    passing = appointment.pass_by
    before(SafeRecovery, "on_rebalance", lambda *_: passing("rebalance"))
    before(SafeRecovery, "_build_offsets", lambda *_: passing("fenced"))
    before(SafeRecovery, "on_recovery_completed", lambda *_: passing("restored"))
    after(SafeRecovery, "_seek_offsets", lambda: passing("recovery"))
    watch(Batches(passing))


class Batches:
    """Passes the checkpoints of batches by; the two `sending` ones a moment after records are handed over.

    That moment is over when the next checkpoint comes, if the broker is as fast as that.
    """

    def __init__(self, passing: Callable[[str], None]) -> None:
        self._passing = passing
        self._handed_over: Checkpoint | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, checkpoint: Checkpoint) -> None:
        self._left()
        if checkpoint not in ("sending posteriors", "sending beliefs"):
            self._passing(checkpoint)
            return
        self._handed_over = checkpoint
        self._timer = asyncio.get_running_loop().call_later(IN_FLIGHT_SECONDS, self._left)

    def _left(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._handed_over is not None:
            checkpoint, self._handed_over = self._handed_over, None
            self._passing(checkpoint)


def shift_clock(file: Path) -> None:
    """`time.time` differs from the machine's by what the file says."""
    true, shift = time.time, [float(file.read_text())]

    def look_again(*_: object) -> None:
        shift[0] = float(file.read_text())

    signal.signal(signal.SIGUSR1, look_again)
    time.time = lambda: true() + shift[0]


def main() -> None:
    if aim := os.environ.get("CHAOS_AIM"):
        keep(Appointment(aim))
    if clock := os.environ.get("CHAOS_CLOCK"):
        shift_clock(Path(clock))
    from beliefstream.streams.cli import main as beliefstream

    beliefstream(["worker"])


if __name__ == "__main__":
    main()
