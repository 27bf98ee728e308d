"""Runs a command that ends with the process that started it, even if that process is killed.

`python process_guard.py GRACE COMMAND...` starts the command, and ends it as soon as standard input closes; the kernel
closes the pipe when the starter dies. On POSIX the guard also ends the command as soon as the starter is no longer its
parent, because a forked sibling may hold the pipe open. The command gets GRACE seconds between SIGTERM and SIGKILL. The
byte `k` on standard input kills it at once.

PR_SET_PDEATHSIG in the command alone is not enough: it depends on the *thread* that started it, and is Linux only. Here
it ends the command if the guard dies. The guard uses only the standard library, so that it starts quickly.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

KILL = b"k"

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
PARENT_POLL_SECONDS = 0.2


def guarded(command: list[str], grace: float) -> list[str]:
    """Return the command line that runs `command` under a guard; closing its `stdin=subprocess.PIPE` ends it.

    SIGKILL follows SIGTERM after `grace` seconds.
    """
    return [sys.executable, "-I", "-S", __file__, str(grace), *command]


def die_with_guard() -> None:
    """Make the kernel kill the child when the guard dies; runs in the child before exec, with a single thread."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main(arguments: list[str]) -> int:
    """Run `arguments[1:]` until it ends or the starter has ended, and return the exit status."""
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
    """Set `closed` when standard input is closed; kill the child on request."""
    while request := os.read(0, 1):
        if request == KILL:
            child.kill()
    closed.set()


if __name__ == "__main__":
    status = main(sys.argv[1:])
    os._exit(status if 0 <= status < 256 else 1)  # does not wait for the thread that reads standard input
