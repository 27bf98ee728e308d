"""The faults. Each is a generator: it does a step and yields, and the run goes on in between."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from tests.brokers import START_TIMEOUT
from tests.chaos.actors import AimedWorker
from tests.chaos.gaps import Gaps
from tests.chaos.stage import Fault, Stage
from tests.chaos.verdict import FENCED, Failed
from tests.streams.workers import SESSION

DAY = 86_400.0  # seconds
ATTEMPTS = 3  # to start a worker that gets a partition which its local store has already
AWAY_SECONDS = 5.0  # of a broker or a connection
FULL_BYTES = 100_000  # of a file, when the disk is full
FULL = "File too large"  # says RocksDB then
PREFERRED = 0  # of the kinds of election: the first of the replicas
NO_BROKER = "no Kafka broker answers at"  # says a worker that starts just then, and ends
AWAY = "the broker is unreachable, the worker waits"  # says one that runs
LONGEST = 120.0  # seconds until an aimed fault has met its point


def until(condition: Callable[[], bool], seconds: float, what: str) -> Iterator[None]:
    """Yields until it holds."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            raise Failed(f"not within {seconds:g} s: {what}")
        yield


def pause(seconds: float) -> Iterator[None]:
    """Lets the run go on for so long: the fault lasts."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield


def killed(stage: Stage) -> Iterator[None]:
    stage.random.choice(stage.crew).kill()
    yield


def terminated(stage: Stage) -> Iterator[None]:
    worker = stage.random.choice(stage.crew)
    worker.ask_to_end()
    yield from until(lambda: not worker.running, LONGEST, "a worker ends")


def aimed(point: str) -> Fault:
    """kill -9 at a point in the worker's own code."""

    def fault(stage: Stage) -> Iterator[None]:
        times = 1 if point in ("rebalance", "fenced", "recovery", "restored") else stage.random.randint(2, 12)
        yield from replace(stage, f"{point}:{times}:kill")

    return fault


def replace(stage: Stage, aim: str) -> Iterator[None]:
    """One of the crew is replaced by a worker with an appointment, which it keeps."""
    place = stage.random.randrange(len(stage.crew))
    stage.crew[place].kill()
    worker = stage.crew[place] = stage.new_worker(place, aim).launch()
    yield from until(lambda: not worker.running, LONGEST, f"a worker comes to {aim}")
    # the guard says 1 of SIGKILL; the line in the log is the last that the worker has done
    if worker.status != 1 or not worker.kept_appointment:
        raise Failed(f"it ended with {worker.status} before it came to {aim}:\n{worker.log()[-2000:]}")


def zombie(stage: Stage) -> Iterator[None]:
    """It sleeps past its session with a batch in its hands, and wakes up when others have its partitions."""
    place = stage.random.randrange(len(stage.crew))
    point = stage.random.choice(("computed", "posteriors sent"))
    aim = f"{point}:{stage.random.randint(2, 8)}:stop"
    stage.crew[place].kill()
    worker = stage.crew[place] = stage.new_worker(place, aim).launch()
    yield from until(lambda: worker.suspended or not worker.running, LONGEST, "a worker suspends itself")
    if not worker.suspended:
        raise Failed(f"it ended before it came to {aim}:\n{worker.log()[-2000:]}")
    if len(stage.crew) == 1:
        stage.crew.append(stage.new_worker(len(stage.crew)).launch())
    harmed = dict(stage.progress.grown)
    yield from pause(SESSION + 2)
    yield from until(
        lambda: all_owned(stage, worker) and stage.grown(harmed), LONGEST, "others take over its partitions"
    )
    worker.wake()
    yield from until(lambda: not worker.running, LONGEST, "it notices")
    if worker.status != FENCED or not worker.fenced:
        raise Failed(f"a zombie ended with {worker.status}, and was not fenced:\n{worker.log()[-2000:]}")


def all_owned(stage: Stage, zombie: AimedWorker) -> bool:
    """Whether others have every partition of the observations."""
    owned = set[str]().union(*(worker.owned for worker in stage.crew if worker is not zombie))
    topic = stage.names.topics.observations
    return owned >= {f"{topic}-{partition}" for partition in range(stage.partitions)}


def added(stage: Stage) -> Iterator[None]:
    stage.crew.append(stage.new_worker(len(stage.crew)).launch())
    yield


def removed(stage: Stage) -> Iterator[None]:
    if len(stage.crew) > 1:
        worker = stage.crew.pop()
        worker.ask_to_end()
        yield from until(lambda: not worker.running, LONGEST, "a worker leaves")
    yield


def broker_killed(stage: Stage) -> Iterator[None]:
    stage.allowed |= {NO_BROKER, AWAY}
    node = stage.random.choice(stage.nodes)
    node.kill()
    time.sleep(AWAY_SECONDS)  # the run stands still, for its own clients would wait for the broker
    node.start()
    yield


def broker_restarted(stage: Stage) -> Iterator[None]:
    stage.allowed |= {NO_BROKER, AWAY}
    node = stage.random.choice(stage.nodes)
    node.stop()
    node.start()
    yield


def broker_lost(stage: Stage) -> Iterator[None]:
    """One of three, for longer than any session."""
    stage.allowed.add(AWAY)
    node = stage.random.choice(stage.nodes)
    node.kill()
    # from a thread of its own: a client of the run itself may stand still until the node is back
    back = threading.Timer(3 * SESSION, node.start)
    back.start()
    yield from until(lambda: not back.is_alive(), LONGEST + START_TIMEOUT, "the broker is back")
    yield


def leader_moved(stage: Stage) -> Iterator[None]:
    """Of every partition: the order of its replicas is turned round, and the first of them elected."""
    stage.allowed.add(AWAY)
    admin = KafkaAdminClient(bootstrap_servers=stage.broker.bootstrap_servers.split(","))
    numbers = [node.number for node in stage.nodes]
    turn = stage.random.randrange(1, len(numbers))
    topics = stage.names.topics
    try:
        places = [
            TopicPartition(topic, partition)
            for topic in (topics.observations, topics.beliefs_changelog, topics.posteriors)
            for partition in range(stage.partitions)
        ]
        rows = {place: numbers[(place.partition + turn) % len(numbers) :] for place in places}
        admin.alter_partition_reassignments(
            {place: [*row, *(n for n in numbers if n not in row)] for place, row in rows.items()}
        )
        yield from until(lambda: not admin.list_partition_reassignments(), LONGEST, "replicas are in order")
        admin.elect_leaders(PREFERRED, places, raise_errors=False)
    finally:
        admin.close()
    yield


def connection_cut(stage: Stage) -> Iterator[None]:
    assert stage.proxy is not None
    stage.allowed |= {NO_BROKER, AWAY}
    stage.proxy.cut()
    yield from pause(stage.random.uniform(0.5, AWAY_SECONDS))
    stage.proxy.mend()


def connection_flickers(stage: Stage) -> Iterator[None]:
    """Answers are lost, and producers retry what the broker has."""
    assert stage.proxy is not None
    stage.allowed |= {NO_BROKER, AWAY}
    for _ in range(8):
        stage.proxy.cut()
        stage.proxy.mend()
        yield from pause(stage.random.uniform(0.2, 1.0))


def clock_jumps(stage: Stage) -> Iterator[None]:
    """A day forward, and a day back. Whoever starts a day ahead takes its local store for one of yesterday."""
    file, place = stage.directory / "clock", stage.random.randrange(len(stage.crew))
    on_disk = "store" in stage.settings
    file.write_text(str(DAY if on_disk else 0.0))
    for _ in range(ATTEMPTS if on_disk else 1):
        stage.crew[place].kill()
        worker = stage.crew[place] = stage.new_worker(place, clock=file).launch()
        yield from until(lambda: worker.ready, LONGEST, "a worker with a clock of its own is ready")  # noqa: B023
        if discards := [line for line in worker.said() if "hours old" in str(line.get("reason", ""))]:
            break
    if on_disk and not discards:
        raise Failed(f"no local store is taken for one of yesterday:\n{worker.log()[-2000:]}")
    for shift in (DAY, -DAY, 0.0):
        file.write_text(str(shift))
        worker.look_at_clock()
        yield from pause(1.0)


def compacted(stage: Stage) -> Iterator[None]:
    """The changelog, at once and often; then a worker recovers from what is left."""
    topic = stage.names.topics.beliefs_changelog
    configure(
        stage,
        topic,
        {"segment.ms": "200", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "200"},
    )
    # records that come from now on, for an earlier fault may have compacted those before
    gaps = Gaps(stage.broker.bootstrap_servers, topic, stage.partitions)
    try:
        yield from until(gaps.found, LONGEST, "the changelog is compacted")
    finally:
        gaps.close()
    stage.random.choice(stage.crew).kill()
    yield


def configure(stage: Stage, topic: str, settings: dict[str, str]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=stage.broker.bootstrap_servers.split(","))
    try:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, settings)])
    finally:
        admin.close()


def disk_full(stage: Stage) -> Iterator[None]:
    """No file of a worker's local store may grow beyond what it is: it ends, and comes back with room again."""
    place = stage.random.randrange(len(stage.crew))
    worker = stage.crew[place]
    yield from until(lambda: worker.ready, LONGEST, "a worker is ready")
    worker.allowed.add(FULL)
    _, hard = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
    # its log is a file too, and is to say what failed: it keeps room to grow by so much
    full = worker.log_bytes + FULL_BYTES
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (full, hard))
    yield from until(lambda: not worker.running, LONGEST, "a worker cannot write")
    said = [" ".join(map(str, line.values())) for line in worker.said()]
    if not any(FULL in each and str(worker.directory) in each for each in said):
        raise Failed(f"a worker ended with {worker.status}, and not of its store:\n{worker.log()[-2000:]}")
