"""Runs a command that must not outlive the process that asked for it, even if that one is killed by SIGKILL.

`python guard.py GRACE COMMAND...` starts the command and ends it as soon as standard input closes (the kernel
closes the pipe whatever the asker died of) or, on POSIX, as soon as the asker is no longer our parent (a
forked sibling may still hold the pipe open). The command gets GRACE seconds between SIGTERM and SIGKILL; the
byte `k` on standard input kills it at once.

A process of its own, rather than PR_SET_PDEATHSIG in the child alone: that signal is tied to the *thread*
that started the child, and is Linux only. Here it only covers the death of this guard. Standard library only,
to start quickly.
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
    """The command line that runs `command` under a guard; close its `stdin=subprocess.PIPE` to end it.

    Args:
        command: the program and its arguments.
        grace: seconds between asking the program to end and killing it.
    """
    return [sys.executable, "-I", "-S", __file__, str(grace), *command]


def die_with_guard() -> None:
    """Runs in the child before exec; safe here because the guard has a single thread at that point."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Runs `arguments[1:]` until it ends by itself or the asker goes; returns the exit status to report."""
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
    """Sets `closed` when the other end of standard input is gone; kills the child when told to."""
    while word := os.read(0, 1):
        if word == KILL:
            child.kill()
    closed.set()


if __name__ == "__main__":
    status = main(sys.argv[1:])
    os._exit(status if 0 <= status < 256 else 1)  # no wait for the thread that reads standard input
