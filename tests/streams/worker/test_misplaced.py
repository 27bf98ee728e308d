"""Records that a librdkafka producer has put into other partitions than kafka-python would, and a real worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from beliefstream.schemas import PositionSensor
from beliefstream.streams.local.simulated_fleet import fleet_model
from tests.brokers import EmbeddedNode
from tests.conftest import Names, eventually
from tests.streams.placements import LIBRDKAFKA, MURMUR2, placed
from tests.streams.workers import Stream, posteriors_of, stream

PARTITIONS = 4
WAIT = 30.0  # seconds
# recorded with 8 partitions; the remainder of 4 follows from it
ELSEWHERE = [(key.decode(), partition % PARTITIONS) for key, partition in placed(LIBRDKAFKA)][:16]
BELONG = {key.decode(): partition % PARTITIONS for key, partition in placed(MURMUR2)}
WRONG = {entity for entity, partition in ELSEWHERE if BELONG[entity] != partition}


def send_both_ways(opened: Stream) -> list[str]:
    """One observation of each entity as librdkafka places it, one as kafka-python does; returns the entities."""
    opened.define([PositionSensor(sensor="gps", standard_deviation=1.0), fleet_model()])
    for entity, partition in ELSEWHERE:
        body = f'{{"entity":"{entity}","sensor":"gps","time":1,"value":[1,2],"id":"theirs-{entity}"}}'
        opened.raw.send(
            opened.names.topics.observations, key=entity.encode(), value=body.encode(), partition=partition
        )
        opened.observations.send(entity, "gps", (1.0, 2.0), time=2.0, id=f"ours-{entity}")
    opened.raw.flush(WAIT)
    opened.observations.flush(WAIT)
    return [entity for entity, _ in ELSEWHERE]


def applied(records: list[Any]) -> set[str]:
    return {
        name for record in records for each in posteriors_of([record]).values() for name in each[0].applied
    }


def test_misplaced_records_begin_second_beliefs_that_are_counted_where_they_are_not_refused(
    embedded_broker: EmbeddedNode, names: Names, tmp_path: Path
) -> None:
    with stream(embedded_broker, names, tmp_path) as opened:
        entities = send_both_ways(opened)
        worker = opened.worker(refuse_misplaced=False).start()
        expected = {f"{whose}-{entity}" for entity in entities for whose in ("ours", "theirs")}
        opened.posteriors.wait_for(lambda records: applied(records) >= expected, WAIT, "all are applied")
        counter = f"beliefstream_misplaced_records_total/{names.topics.observations}"
        eventually(lambda: worker.metrics()[counter] == len(WRONG), WAIT, "all misplaced ones are counted")
        # no partition's offsets are taken for another's: each belief has all that was sent to it
        sequences = {
            (record.key.decode(), record.partition): posterior.sequence
            for record in opened.posteriors.records
            for posterior in posteriors_of([record])[record.key.decode()]
        }
        assert len(sequences) == len(entities) + len(WRONG)
        for entity in entities:
            assert sequences[entity, BELONG[entity]] == (1 if entity in WRONG else 2)
        opened.dead_letters.poll()
        assert opened.dead_letters.records == []
        eventually(lambda: "CRC-32" in worker.log(), WAIT, "what explains them is logged")
        lines = [line for line in worker.log().splitlines() if "in the wrong partition" in line]
        # the first batch may hold too few keys to tell by
        assert ["CRC-32" in line for line in lines] in ([True], [False, True])
