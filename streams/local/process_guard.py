"""Runs a command that must not outlive the process that started it, even after SIGKILL.

`python guard.py GRACE COMMAND...` starts the command and ends it as soon as standard input closes: the kernel closes
the pipe however the starter died. On POSIX it also ends the command as soon as the starter is no longer our parent,
because a forked sibling may hold the pipe open. The command gets GRACE seconds between SIGTERM and SIGKILL; the byte
`k` on standard input kills it at once.

PR_SET_PDEATHSIG in the child alone is not enough: it is tied to the *thread* that started the child, and is Linux only.
Here it only covers the death of this guard. The guard uses the standard library only, to start quickly.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

__all__ = ["KILL", "guarded", "main"]

KILL = b"k"

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
PARENT_POLL_SECONDS = 0.2


def guarded(command: list[str], grace: float) -> list[str]:
    """Return the command line that runs `command` under a guard; close its `stdin=subprocess.PIPE` to end it.

    Args:
        command: the program and its arguments.
        grace: seconds between SIGTERM and SIGKILL.
    """
    return [sys.executable, "-I", "-S", __file__, str(grace), *command]


def die_with_guard() -> None:
    """Run in the child before exec; this is safe because the guard has a single thread at that point."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Run `arguments[1:]` until it ends or the starter is gone; returns the exit status to report."""
    grace, command = float(arguments[0]), arguments[1:]
    parent = os.getppid()
    prepare = die_with_guard if sys.platform == "linux" else None
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=prepare)
    closed = threading.Event()
    threading.Thread(target=wait_for_end_of_input, args=(closed, child), daemon=True).start()
    while child.poll() is None and not closed.wait(PARENT_POLL_SECONDS):
        if os.name == "posix" and os.getppid() != parent:
            break
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            child.kill()
    return child.wait()


def wait_for_end_of_input(closed: threading.Event, child: subprocess.Popen[bytes]) -> None:
    """Set `closed` when the other end of standard input is closed; kill the child on request."""
    while word := os.read(0, 1):
        if word == KILL:
            child.kill()
    closed.set()


if __name__ == "__main__":
    status = main(sys.argv[1:])
    os._exit(status if 0 <= status < 256 else 1)  # does not wait for the thread that reads standard input
