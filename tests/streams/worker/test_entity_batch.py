"""The whole way of an entity's record without a broker, through its bytes after every batch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from beliefstream.schemas import Observation, Posterior, parse
from beliefstream.streams.local.simulated_fleet import simulate
from beliefstream.streams.state.record import BeliefRecord, RecordCache
from beliefstream.streams.worker.entity_batch import EntityBatch
from research.bench.late_observations import OfflineTable, costs, sizes
from tests.streams.oracle import check_ends, delayed, expected, updater

DOUBLE = 1e-6
SIMULATION = simulate(entities=2, duration=6.0, seed=11)
OBSERVATIONS = [
    seen.model_copy(update={"id": f"seen-{number}"}) for number, seen in enumerate(SIMULATION.observations)
]


def through(table: OfflineTable, batches: list[list[Observation]]) -> dict[str, list[Posterior]]:
    found: dict[str, list[Posterior]] = {}
    for batch in batches:
        for record in table.apply(batch)[0]:
            posterior = parse(Posterior, record.value)
            found.setdefault(posterior.entity, []).append(posterior)
    return found


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 1000), st.sets(st.integers(1, len(OBSERVATIONS) - 1)))
def test_any_delays_within_the_window_and_any_batches_end_as_the_replay_does(
    seed: int, cuts: set[int]
) -> None:
    arriving = delayed(OBSERVATIONS, 1.9, seed)
    places = [0, *sorted(cuts), len(arriving)]
    batches = [arriving[start:end] for start, end in pairwise(places)]
    found = through(OfflineTable(SIMULATION.model, SIMULATION.sensors, updater()), batches)
    outcomes = expected(SIMULATION.model, SIMULATION.sensors, OBSERVATIONS)
    check_ends(found, outcomes, DOUBLE, OBSERVATIONS)


@pytest.mark.parametrize("size", [1, 7])
@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("most", [0, 1, 100])
def test_neither_the_cache_nor_the_short_plan_changes_a_byte(
    size: int, general: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With late observations among the others, and with repeated ones."""
    arriving = [*delayed(OBSERVATIONS[:40], 1.9, 3), *OBSERVATIONS[30:35]]
    batches = [arriving[start : start + size] for start in range(0, len(arriving), size)]
    reference = bytes_of(OfflineTable(SIMULATION.model, SIMULATION.sensors, updater()), batches)
    if general:
        monkeypatch.setattr(EntityBatch, "_follows", lambda entity: False)
    cache = RecordCache(most)
    found = bytes_of(OfflineTable(SIMULATION.model, SIMULATION.sensors, updater(), cache=cache), batches)
    assert found == reference


def bytes_of(table: OfflineTable, batches: list[list[Observation]]) -> tuple[list[Any], dict[bytes, bytes]]:
    """All that is sent, and the records in the end."""
    return [record for batch in batches for record in table.apply(batch)[0]], table.records


def test_what_is_sent_again_with_its_id_is_applied_once() -> None:
    """At once, in a later batch, and late."""
    observations = OBSERVATIONS[:30]
    batches = [
        observations[:10] + observations[:10],
        observations[5:20],
        observations[20:] + observations[25:27],
        observations[-8:],
    ]
    found = through(OfflineTable(SIMULATION.model, SIMULATION.sensors, updater()), batches)
    outcomes = expected(SIMULATION.model, SIMULATION.sensors, observations)
    check_ends(found, outcomes, DOUBLE, observations)
    for entity, taken in found.items():
        assert taken[-1].sequence == sum(seen.entity == entity for seen in observations)
        assert taken[-1].revision == 0


def test_without_an_id_every_message_counts() -> None:
    seen = OBSERVATIONS[0].model_copy(update={"id": None})
    found = through(OfflineTable(SIMULATION.model, SIMULATION.sensors, updater()), [[seen, seen], [seen]])
    assert found[seen.entity][-1].sequence == 3


def test_a_record_keeps_the_window_and_not_much_more() -> None:
    simulation = simulate(entities=1, duration=20.0, seed=2)
    table = OfflineTable(simulation.model, simulation.sensors, updater())
    through(table, [[seen] for seen in simulation.observations])
    past = BeliefRecord.decode(next(iter(table.records.values()))).past
    newest = simulation.observations[-1].time
    within = sum(seen.time >= newest - 2.0 for seen in simulation.observations)
    assert past.base_time < newest - 2.0
    assert within <= len(past.moments) <= 2 * within + 2
    assert sum(moment.state is not None for moment in past.moments) <= 2 + np.log2(len(past.moments))


def test_the_benchmark_counts_what_is_computed_again() -> None:
    on_time, late = costs(updater(), newer=(0, 2), repeats=1, entities=3)
    assert on_time.instants == 1.0
    assert 3.0 <= late.instants <= 5.0
    short, longer = sizes(updater(), windows=(0.0, 3.0), entities=3)
    assert longer.moments > short.moments
    assert longer.bytes > short.bytes
