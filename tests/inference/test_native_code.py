"""What `native_code.prepare` compiles is all that a worker's updates need."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from numba.core import event

from beliefstream.inference import native_code
from beliefstream.inference.network import weights
from beliefstream.inference.update.settings import WORKER
from beliefstream.inference.update.updater import Updater
from tests.conftest import eventually
from tests.inference.problems import sampled, updater
from tests.inference.tracking.test_filtering import by_entity, walk


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
def test_updates_compile_nothing_that_was_not_prepared(dimension: int, dtype: torch.dtype) -> None:
    native_code.prepare()
    prior, observations, _ = sampled(48, dimension)
    with event.install_recorder("numba:compile") as compiled:
        Updater(weights.load(), settings=WORKER, dtype=dtype).update(prior, observations)
        for row in range(8):
            one = slice(row, row + 1)
            updater().update(prior.rows(one), observations.rows_of(one))
    assert names(compiled) == set()


def test_steps_compile_nothing_that_was_not_prepared() -> None:
    native_code.prepare()
    with event.install_recorder("numba:compile") as compiled:
        by_entity(walk())
    assert names(compiled) == set()


def names(compiled: event.RecordingListener) -> set[str]:
    return {recorded.data["dispatcher"].py_func.__qualname__ for _, recorded in compiled.buffer}


@pytest.mark.programs
def test_ctrl_c_ends_compilation_with_all_its_processes(tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "beliefstream.inference.native_code"],
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # as in a terminal: what a shell runs in the background ignores Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert program.stderr is not None
    with program.stderr as said:
        assert said.readline().startswith("compiling native code: ")
        os.kill(program.pid, signal.SIGINT)
        # lines of progress that were on their way may come before it, and nothing else
        rest = re.sub(r"compiling native code: .*\n", "", said.read())
        assert rest == "\nstopped; what was compiled is kept\n"
    assert program.wait() == 130
    eventually(lambda: not is_there(program.pid), 10, "all its processes have ended")


def is_there(group: int) -> bool:
    """Whether a process of that group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
