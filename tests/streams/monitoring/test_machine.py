"""What a worker tells of its machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from beliefstream.streams.monitoring.metrics import Machine


def told(machine: Machine) -> dict[str, float]:
    return {sample.name: sample.value for family in machine.collect() for sample in family.samples}


def test_nothing_is_told_before_it_is_known() -> None:
    machine = Machine()
    assert told(machine) == {}
    assert {family.name for family in machine.collect()} == {
        f"beliefstream_{name}_bytes"
        for name in ("disk_free", "disk_size", "gpu_memory_free", "gpu_memory_size")
    }


def test_the_disk_is_that_of_the_directory_even_before_it_is_made(tmp_path: Path) -> None:
    machine = Machine()
    machine.watch(tmp_path / "not" / "there")
    found, expected = told(machine), os.statvfs(tmp_path)
    assert found["beliefstream_disk_size_bytes"] == expected.f_blocks * expected.f_frsize
    free = expected.f_bavail * expected.f_frsize
    assert found["beliefstream_disk_free_bytes"] == pytest.approx(free, rel=0.05)  # others write too
    assert not any("gpu" in name for name in found)


def test_a_disk_that_cannot_be_asked_has_no_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("shutil.disk_usage", refuse)
    machine = Machine()
    machine.watch(tmp_path)
    assert told(machine) == {}


def test_memory_of_a_gpu_is_asked_for_each_time(tmp_path: Path) -> None:
    answers = iter([(3, 10), (2, 10)])
    machine = Machine()
    machine.watch(tmp_path, lambda: next(answers))
    for free in (3, 2):
        found = told(machine)
        assert found["beliefstream_gpu_memory_free_bytes"] == free
        assert found["beliefstream_gpu_memory_size_bytes"] == 10
