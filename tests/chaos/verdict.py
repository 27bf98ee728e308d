"""What is asked when a run is over: of the topics, of the replay, and of everything its workers have logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from kafka import KafkaConsumer, TopicPartition

from beliefstream.inference.tracking.events import Belief
from beliefstream.schemas import Mixture, Posterior, parse
from beliefstream.streams.kafka.topics import MESSAGE_BYTES
from beliefstream.streams.state.record import INTERNAL, BeliefRecord
from tests.chaos.actors import AimedWorker
from tests.chaos.progress import Place, Taken
from tests.streams.oracle import belief_distance

EXACT = 1e-6  # component by component, through JSON and in whatever batches
CLIENTS = ("aiokafka", "kafka")  # say every connection that breaks, and try again
FENCED = 70  # exit status of a worker that finds another one in its place
SILENT_SECONDS = 60  # of a broker that is to answer
TRACEBACK = "Traceback (most recent call last)"


class Failed(AssertionError):
    """The promise was broken; the message says where and with which seed."""


def dead_letters(found: Counter[Place], planted: Counter[Place]) -> list[str]:
    """What is wrong with the dead letters: each planted message has one, or the same one several times."""
    strange = [f"an unexpected dead letter: {place}" for place in found - planted if place not in planted]
    return strange + [f"a dead letter is missing: {place}" for place in planted - found]


def against(
    exact: Mapping[str, Belief],
    entities: Mapping[str, Taken],
    kept: Mapping[bytes, bytes | None],
    due: Mapping[str, int],
) -> tuple[list[str], float]:
    """What differs from the replay, and the largest distance.

    Looks at the last posterior of each entity, and at its belief in the changelog, which a worker goes on from.

    Args:
        entities: their posteriors. kept: of the changelog, as `changelog` reads it. due: messages of every entity.
    """
    shown = {entity: parse(Posterior, each.last).mixture for entity, each in entities.items()}
    records = {
        key.decode(): BeliefRecord.decode(value)
        for key, value in kept.items()
        if value is not None and not key.startswith(INTERNAL)
    }
    faults = [
        f"{entity}: {record.sequence} messages are in the changelog's belief, not {due.get(entity, 0)}"
        for entity, record in records.items()
        if record.sequence != due.get(entity, 0)
    ]
    known = {entity: _mixture(record.belief) for entity, record in records.items() if record.belief}
    worst = 0.0
    for what, found in (("its last posterior", shown), ("the changelog's belief", known)):
        more, apart = _against(what, exact, found)
        faults.extend(more)
        worst = max(worst, apart)
    return faults, worst


def _against(what: str, exact: Mapping[str, Belief], found: Mapping[str, Mixture]) -> tuple[list[str], float]:
    apart = {
        entity: belief_distance(found[entity], belief) if entity in found else float("inf")
        for entity, belief in exact.items()
    }
    faults = [
        f"{entity}: {what} is {each:.2g} from that of the replay"
        for entity, each in apart.items()
        if not each <= EXACT
    ]
    faults.extend(
        f"{entity}: {what} is there, and nothing to compute it from" for entity in found.keys() - exact
    )
    return faults, max(apart.values(), default=0.0)


def _mixture(belief: Belief) -> Mixture:
    return Mixture(weights=tuple(belief.weights.tolist()), means=belief.means, covariances=belief.covariances)


def changelog(servers: str, topic: str, partitions: int) -> dict[bytes, bytes | None]:
    """The last value of every key."""
    consumer = KafkaConsumer(
        bootstrap_servers=servers.split(","), group_id=None, max_partition_fetch_bytes=MESSAGE_BYTES
    )
    try:
        places = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        consumer.seek_to_beginning()
        found: dict[bytes, bytes | None] = {}
        # the embedded broker reports ends that are too low; a fetch has the right ones (streams.kafka.faust.watermarks)
        while any(
            consumer.position(place) < max(ends[place], consumer.highwater(place) or 0) for place in places
        ):
            if not (polled := consumer.poll(timeout_ms=SILENT_SECONDS * 1000)):
                raise Failed(f"{topic}: it cannot be read to its end, {ends}")
            for records in polled.values():
                found.update((record.key, record.value) for record in records)
        return found
    finally:
        consumer.close()


def logs(workers: Sequence[AimedWorker], allowed: Collection[str]) -> list[str]:
    """Who has ended and was not to, and errors; texts of faults are allowed to all, `worker.allowed` to that one."""
    found = []
    for worker in workers:
        texts = {*worker.allowed, *allowed}
        found.extend(_end(worker, texts))
        found.extend(_errors(worker, texts))
    return found


def _end(worker: AimedWorker, allowed: Collection[str]) -> list[str]:
    status, log = worker.status, worker.log()
    expected = (
        status is None
        or worker.asked == "kill"
        or (worker.asked == "terminate" and status == 0)
        or (status == 1 and worker.kept_appointment)  # the guard says 1 of SIGKILL
        or (status == FENCED and worker.fenced)
        or (status != 0 and any(text in log for text in allowed))
    )
    how = "when it was asked to" if worker.asked else "by itself"
    return [] if expected else [f"a worker ended {how} with {status}: {worker.name}: {log[-500:]}"]


def _errors(worker: AimedWorker, allowed: Collection[str]) -> list[str]:
    found = []
    for line in filter(_matters, worker.said()):
        text = f"{line['event']} {line.get('detail', '')} {line.get('exception', '')}"
        if not any(each in text for each in allowed):
            found.append(f"{worker.name}: {text[:300]} ... {text[300:][-300:]}")
    raw = [line for line in worker.log().splitlines() if line.startswith(TRACEBACK)]
    return found + [f"{worker.name}: {line}" for line in raw]


def _matters(line: Mapping[str, object]) -> bool:
    logger = str(line.get("logger", ""))
    if line.get("level") not in ("error", "critical") or str(line["event"]).startswith("fenced"):
        return False
    return logger.startswith("beliefstream.") or ("exception" in line and not logger.startswith(CLIENTS))
