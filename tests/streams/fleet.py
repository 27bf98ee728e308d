"""A worker on a stream of its own, and a simulated fleet that is sent through it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from beliefstream.inference.tracking.filtering import Outcome
from beliefstream.schemas import Observation
from beliefstream.streams.local.simulated_fleet import Simulation, simulate
from beliefstream.streams.settings import Accuracy
from tests.conftest import eventually
from tests.streams.oracle import check_order, expected
from tests.streams.workers import Stream, Worker, posteriors_of


class Fleet:
    """A stream and the worker on it; `early` is what its pages said before it was ready."""

    def __init__(self, opened: Stream, **settings: Any) -> None:
        self.stream = opened
        self.worker: Worker = opened.worker(**settings).launch()
        self.early = eventually(self._early, 60, "the worker's pages are there")
        self.worker.wait_until_ready()

    def _early(self) -> dict[str, int]:
        pages = {path: self.worker.page(path)[0] for path in ("/readyz", "/healthz", "/metrics")}
        return pages if all(pages.values()) else {}

    def posteriors(self, counts: dict[str, int]) -> dict[str, list[Any]]:
        """Of these entities, once each has that many."""

        def complete(records: list[Any]) -> dict[str, list[Any]] | None:
            wanted = [record for record in records if record.key.decode() in counts]
            if len(wanted) < sum(counts.values()):
                return None
            found = posteriors_of(wanted)
            return found if {entity: len(taken) for entity, taken in found.items()} == counts else None

        found: dict[str, list[Any]] = self.stream.posteriors.wait_for(complete, 60, f"posteriors {counts}")
        return found

    def complete(self, last: dict[str, int]) -> dict[str, list[Any]]:
        """The posteriors of these entities, once each has come to that sequence."""

        def there(records: list[Any]) -> dict[str, list[Any]] | None:
            found = posteriors_of(record for record in records if record.key.decode() in last)
            return found if {entity: taken[-1].sequence for entity, taken in found.items()} == last else None

        found: dict[str, list[Any]] = self.stream.posteriors.wait_for(there, 60, f"sequences {last}")
        return found


def followed(
    fleet: Fleet, accuracy: Accuracy = "normal"
) -> tuple[list[Observation], dict[str, list[Any]], dict[str, list[Outcome]]]:
    """A simulation through the worker: what was sent, what came, and what the replay says; counts are checked."""
    simulation, observations, outcomes = _replayed(accuracy)
    # defined right before the first observation, after the worker has started
    fleet.stream.define([simulation.model, *simulation.sensors])
    before = fleet.worker.metrics()
    for seen in observations:
        fleet.stream.observations.send_message(seen)
    fleet.stream.observations.flush()
    found = fleet.posteriors({entity: len(due) for entity, due in outcomes.items()})
    check_order(found, outcomes, observations)
    methods = {posterior.quality.method for taken in found.values() for posterior in taken}
    check_counts(fleet, before, len(observations), methods)
    return observations, found, outcomes


@lru_cache
def _replayed(
    accuracy: Accuracy,
) -> tuple[Simulation, list[Observation], dict[str, list[Outcome]]]:
    """The simulation, its observations and the replay of them, which takes seconds and is the same on every broker."""
    simulation = simulate(entities=20, duration=20.0, seed=3)
    observations = [
        seen.model_copy(update={"id": f"seen-{number}"})
        for number, seen in enumerate(simulation.observations)
    ]
    return (
        simulation,
        observations,
        expected(simulation.model, simulation.sensors, observations, accuracy=accuracy),
    )


def check_counts(fleet: Fleet, before: dict[str, float], count: int, methods: set[str]) -> None:
    """The metrics have counted those observations, and nothing else, since `before`."""

    accepted = "beliefstream_observations_total/accepted"

    def counted() -> dict[str, float] | None:
        now = fleet.worker.metrics()
        change = {name: value - before.get(name, 0.0) for name, value in now.items()}
        return change if change[accepted] == count else None

    # a posterior can be read before the worker has heard that the broker has it
    change = eventually(counted, 30, "the metrics are up to date")
    assert change is not None
    assert change.get("beliefstream_observations_total/rejected", 0) == 0
    assert change.get("beliefstream_observations_total/duplicate", 0) == 0
    assert sum(value for name, value in change.items() if "dead_letters_total" in name) == 0
    posteriors = {
        name.split("/")[1]: value
        for name, value in change.items()
        if name.startswith("beliefstream_posteriors_total")
    }
    assert sum(posteriors.values()) == count
    assert {method for method, value in posteriors.items() if value} == methods
    for name in ("end_to_end_seconds", "event_lag_seconds", "sample_efficiency"):
        assert change[f"beliefstream_{name}_count"] == count, name
    now = fleet.worker.metrics()
    assert now["beliefstream_entities"] >= 20
    lags = {name: value for name, value in now.items() if name.startswith("beliefstream_consumer_lag/")}
    assert lags
    assert set(lags.values()) == {0.0}
