"""Part of `make chaos`, for every change: some faults, all of its checks, and the workload it rests on."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaProducer
from msgspec.structs import replace

from beliefstream.streams.kafka import topics
from beliefstream.streams.kafka.topics import MESSAGE_BYTES
from beliefstream.streams.local.broker import free_port
from beliefstream.streams.state.record import INTERNAL, BeliefRecord
from beliefstream.streams.worker.fusion import CHECKPOINTS
from tests.brokers import EmbeddedNode
from tests.chaos import plan, verdict
from tests.chaos.__main__ import arguments, command
from tests.chaos.actors import AimedWorker
from tests.chaos.plan import Front
from tests.chaos.proxy import Proxy
from tests.chaos.report import Report, StageReport, by_fault
from tests.chaos.worker import POINTS, Batches
from tests.chaos.workload import Planted, Workload, beliefs
from tests.conftest import Names, unique_names
from tests.streams.oracle import updater

POLL_RECORDS = 500  # that one poll of kafka-python returns at most
SMALL = Workload(seed=3, observations=800, entities=10, segments=2)


def test_a_seed_says_everything() -> None:
    again = Workload(seed=3, observations=800, entities=10, segments=2)
    assert SMALL.segment(1) == again.segment(1)
    assert SMALL.segment(1) != Workload(seed=4, observations=800, entities=10, segments=2).segment(1)
    names = [name for name, _ in plan.full(3)[0].faults]
    assert names == [name for name, _ in plan.full(3)[0].faults]
    assert sorted(names) == sorted(name for name, _ in plan.full(4)[0].faults)


def test_a_million_is_at_least_a_million() -> None:
    asked = arguments().parse_args([])
    parts = plan.workloads(asked.seed, asked.observations, asked.entities, asked.segments, asked.rounds)
    assert [part.name for part, _ in parts] == [part.name for part in plan.full(asked.seed)]
    assert sum(workload.total for _, workload in parts) >= asked.observations == 1_000_000
    counts = Counter(name for part, _ in parts for name, _ in part.faults)
    assert {f"kill -9 ({point})" for point in POINTS} <= counts.keys()


def test_every_option_that_is_not_as_by_default_is_in_the_command() -> None:
    parser = arguments()
    asked = parser.parse_args(
        ["--seed", "7", "--rounds", "2", "--stage", "three brokers", "--report", "x.md"]
    )
    words = "--seed 7 --observations 1000000 --rounds 2 --stage 'three brokers'"
    assert command(parser, asked) == f'make chaos ARGS="{words}"'
    again = parser.parse_args(shlex.split(words))
    assert vars(again) | {"report": None} == vars(asked) | {"report": None}


def test_beliefs_of_the_changelog_are_held_against_the_replay() -> None:
    exact, due = beliefs(SMALL, updater(), last=0), SMALL.segment(0).counts
    kept: dict[bytes, bytes | None] = {
        entity.encode(): BeliefRecord.of(belief, ("x", "y"), sequence=due[entity]).encode()
        for entity, belief in exact.items()
    }
    kept |= {INTERNAL + b"origin": b"{}", b"forgotten": None}

    def faults(changed: dict[bytes, bytes | None]) -> list[str]:
        found, _ = verdict.against(exact, {}, kept | changed, due)
        return [fault for fault in found if "posterior" not in fault]

    assert len(verdict.against(exact, {}, kept, due)[0]) == len(exact)  # no posterior of any
    assert faults({}) == []
    belief = exact["entity-0004"]
    moved = replace(belief, means=belief.means + 1e-4 * np.sqrt(belief.covariances[0, 0, 0]))
    for other, count in ((moved, due["entity-0004"]), (belief, 1)):
        record = BeliefRecord.of(other, ("x", "y"), sequence=count)
        assert len(faults({b"entity-0004": record.encode()})) == 1
    assert len(faults({b"entity-0004": None})) == 1
    assert len(faults({b"doomed-0001": kept[b"entity-0004"]})) == 2  # nothing is due, and nothing computes it


def test_the_changelog_is_read_to_its_end_where_the_broker_reports_one_that_is_too_low(
    embedded_broker: EmbeddedNode, names: Names
) -> None:
    """The embedded broker reports an end after the first record of the last batch, and there a poll stops here."""
    servers, topic = embedded_broker.bootstrap_servers, names.topics.observations
    topics.create(servers, names.topics, partitions=1)
    written = {str(number).encode(): b"value" for number in range(POLL_RECORDS + 5)}
    with closing(
        KafkaProducer(bootstrap_servers=servers, linger_ms=10_000, batch_size=MESSAGE_BYTES)
    ) as sender:
        for number, (key, value) in enumerate(written.items(), start=2):
            sender.send(topic, key=key, value=value)
            if number == POLL_RECORDS:
                sender.flush()
        sender.flush()
    assert verdict.changelog(servers, topic, 1) == written


def test_dead_letters_may_come_twice_and_offsets_again() -> None:
    planted = Counter({("observations", 0, 5, b"old"): 1, ("observations", 0, 5, b"new"): 1})
    assert verdict.dead_letters(planted + planted, planted) == []
    one = Counter({("observations", 0, 5, b"old"): 2})
    assert verdict.dead_letters(one, planted) == ["a dead letter is missing: ('observations', 0, 5, b'new')"]
    assert "unexpected" in verdict.dead_letters(planted, one)[0]


@pytest.mark.parametrize(
    ("said", "faults"),
    [
        (["aimed"], 0),  # as its appointment leaves it
        ([], 1),
        (["batch failed"], 2),
        (["fenced"], 1),  # with another status than that of one that is fenced
        (["crash"], 2),
        (["aimed", "crash"], 1),
        (["aimed", "batch failed", "half a line"], 1),
    ],
)
def test_an_end_that_no_fault_has_asked_for_is_a_fault(tmp_path: Path, said: list[str], faults: int) -> None:
    """By a process that logs what a worker would, and ends with 1."""
    logger = "beliefstream.streams.worker.app"
    lines = {
        "aimed": "an appointment is kept: beliefs sent:2:kill",
        "batch failed": json.dumps(
            {"event": "a batch failed, the worker stops", "level": "error", "logger": logger}
        ),
        "fenced": json.dumps({"event": "fenced: the worker stops", "level": "error", "logger": logger}),
        "crash": "Traceback (most recent call last):",
        "half a line": '{"event": "a batch fai',
    }
    worker = AimedWorker(Front("127.0.0.1:1"), unique_names(), tmp_path)
    text = "\n".join(lines[each] for each in said)
    worker.command = (sys.executable, "-c", f"print({text!r}); raise SystemExit(1)")
    worker.launch().wait_until_ended(30)
    assert len(verdict.logs([worker], [])) == faults
    assert len(verdict.logs([worker], ["a batch failed"])) <= faults
    worker.kill()  # has ended: that it is killed now does not excuse it
    assert len(verdict.logs([worker], [])) == faults


def test_what_is_in_flight_has_left_a_moment_later_or_when_it_is_acknowledged() -> None:
    passed: list[str] = []
    batches = Batches(passed.append)

    async def slow() -> None:
        batches("sending posteriors")
        assert passed == []
        while not passed:
            await asyncio.sleep(0)

    async def fast() -> None:
        for checkpoint in CHECKPOINTS:
            batches(checkpoint)

    asyncio.run(slow())
    assert passed == ["sending posteriors"]
    asyncio.run(fast())
    assert passed == ["sending posteriors", *CHECKPOINTS]


def test_a_connection_from_before_a_cut_does_not_survive_it() -> None:
    front = free_port()
    with socket.create_server(("127.0.0.1", 0)) as server, Proxy(front, server.getsockname()[1]) as proxy:
        with socket.create_connection(("127.0.0.1", front)) as client, server.accept()[0] as beyond:
            proxy.cut()
            proxy.mend()
            late, target = socket.socketpair()
            proxy._connect(late, target, cuts=0)  # accepted before the cut, connected after it
            for each in (client, beyond):
                each.settimeout(10)
                assert each.recv(1) == b""
        assert late.fileno() == target.fileno() == -1


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
    half, whole = beliefs(SMALL, updater(), last=0), beliefs(SMALL, updater())
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
    assert Report.read(tmp_path / "chaos.json") == report


def test_the_last_run_had_every_fault_and_held_the_promise() -> None:
    """By docs/chaos.json alone, which the run writes: the prose of pages may change without another run."""
    report = Report.read(Path(__file__).parents[2] / "docs" / "chaos.json")
    planned = {name for part in plan.full(report.seed) for name, _ in part.faults}
    assert not report.failure
    assert {fault for stage in report.stages for fault in stage.recoveries} == planned
    assert all(stage.lost == stage.double == 0 for stage in report.stages)
    assert sum(stage.messages for stage in report.stages) >= 1_000_000


def test_the_table_that_is_shown_is_of_the_last_run() -> None:
    """Its figures, not what stands around it, nor how it is set."""
    docs = Path(__file__).parents[2] / "docs"
    report = Report.read(docs / "chaos.json")
    assert rows((docs / "chaos.md").read_text()) == rows(report.markdown())


def rows(page: str) -> list[tuple[str, ...]]:
    """The cells of the tables of a Markdown page, without their heads."""
    cells = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in page.splitlines()
        if "|" in line
    ]
    return [row for row in cells if any(character.isdigit() for character in "".join(row[1:]))]


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("broker", [pytest.param("one broker", marks=pytest.mark.kafka), "embedded broker"])
def test_some_faults_and_no_message_lost_or_applied_twice(tmp_path: Path, broker: str) -> None:
    part = next(part for part in plan.subset(1) if part.name == broker)
    workload = Workload(seed=1, observations=1_000 * len(part.faults), entities=50, segments=2)
    with plan.stage(part, workload, tmp_path) as stage:
        lines = stage.run()
    assert [line.fault for line in lines] == [name for name, _ in part.faults]
    assert stage.restarts >= 4  # killed or ended; the zombie has left when it noticed
