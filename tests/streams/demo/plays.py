"""A small schedule and what a consumer would have seen of it, without any broker."""

from __future__ import annotations

from collections.abc import Sequence

from beliefstream.schemas import Mixture, Posterior
from beliefstream.streams.demo.scenario import Scenario, Schedule, schedule_of
from beliefstream.streams.demo.tracking import Tracker

START = 1_700_000_000.0


def small_schedule(duration: float = 6.0, entities: int = 3) -> Schedule:
    return schedule_of(Scenario(speed=10.0, entities=entities, start=START, duration=duration))


def posterior(
    schedule: Schedule,
    entity: str,
    time: float,
    offset: Sequence[float] = (0.0, 0.0),
    applied: Sequence[str] = (),
    method: str = "transformer",
    deviation: float = 1.0,
    p_value: float = 0.5,
) -> Posterior:
    """One whose position is off the truth by `offset`."""
    place = schedule.truth(entity, [time])[0]
    place[:2] += offset
    model = next((each.model for each in schedule.drones if each.name == entity), schedule.fleet.model)
    rates = len(model.coordinates) - len(place)
    return Posterior.model_validate(
        {
            "entity": entity,
            "time": time,
            "sequence": 1,
            "revision": 0,
            "coordinates": model.coordinates,
            "mixture": Mixture.gaussian(
                (*place, *[0.0] * rates), [*[deviation] * len(place), *[1.0] * rates]
            ),
            "quality": {
                "sample_efficiency": 0.8,
                "log_evidence": -1.0,
                "p_value": p_value,
                "method": method,
            },
            "applied": applied,
            "prior_sequence": 0,
            "model": model.name,
            "model_version": 1,
        }
    )


def perfect_tracker(schedule: Schedule) -> Tracker:
    """One that has seen a belief at the truth after every observation, 0.1 s after it was sent."""
    tracker = Tracker(schedule)
    for message in schedule.messages:
        each = message.observation
        if each is not None and not message.note:
            tracker.sent(message, message.due)
            found = posterior(schedule, each.entity, each.time, applied=[each.id or ""])
            tracker.received(found, message.due + 0.1)
    return tracker
