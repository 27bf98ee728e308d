"""Part of `make chaos`, for every change: some faults, all of its checks, and the workload it rests on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import plan
from tests.chaos.report import Report, StageReport, by_fault
from tests.chaos.workload import Planted, Workload, beliefs
from tests.streams.oracle import updater

SMALL = Workload(seed=3, observations=800, entities=10, segments=2)


def test_a_seed_says_everything() -> None:
    again = Workload(seed=3, observations=800, entities=10, segments=2)
    assert SMALL.segment(1) == again.segment(1)
    assert SMALL.segment(1) != Workload(seed=4, observations=800, entities=10, segments=2).segment(1)
    names = [name for name, _ in plan.full(3)[0].faults]
    assert names == [name for name, _ in plan.full(3)[0].faults]
    assert sorted(names) == sorted(name for name, _ in plan.full(4)[0].faults)


def test_the_workload_has_what_it_promises() -> None:
    segment = SMALL.segment(1)
    valid = [message for message in segment.messages if not isinstance(message, Planted)]
    assert len(set(valid)) + len(segment.priors) == sum(segment.counts.values())
    assert len(valid) > len(set(valid))  # some come twice
    times = [float(value.split(b'"time": ')[1].split(b",")[0]) for _, value in valid]
    assert times != sorted(times)
    assert {prior.mode for number in range(4) for prior in SMALL.segment(number).priors} == {
        "replace",
        "product",
    }


def test_the_replay_of_a_part_is_part_of_the_replay() -> None:
    half, whole = beliefs(SMALL, updater("double"), last=0), beliefs(SMALL, updater("double"))
    assert half.keys() == whole.keys() == set(SMALL.names)
    assert all(half[name].time < whole[name].time for name in SMALL.names)


def test_the_report_names_every_fault(tmp_path: Path) -> None:
    recoveries = by_fault([("kill -9", 3.0), ("zombie", 9.0), ("kill -9", 5.0)])
    report = Report(
        "make chaos", 1, 10, 8, stages=[StageReport("one broker", 1, 99, 60.0, 3, 0, 0, recoveries)]
    )
    report.write(tmp_path / "chaos.md")
    page = (tmp_path / "chaos.md").read_text()
    assert "| one broker | kill -9 | 2 | 5.0 s | 5.0 s | 0 | 0 |" in page
    assert (tmp_path / "chaos.json").exists()


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize("broker", [pytest.param("one broker", marks=pytest.mark.kafka), "embedded broker"])
def test_some_faults_and_no_message_lost_or_applied_twice(tmp_path: Path, broker: str) -> None:
    part = next(part for part in plan.subset(1) if part.name == broker)
    workload = Workload(seed=1, observations=2_400 * len(part.faults), entities=50, segments=2)
    with plan.stage(part, workload, tmp_path) as stage:
        lines = stage.run()
    assert [line.fault for line in lines] == [name for name, _ in part.faults]
    assert stage.restarts >= 4  # killed or ended; the zombie has left when it noticed
