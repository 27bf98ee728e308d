"""What the posteriors of a stream must equal: `inference.tracking.filtering.replay` of the same log, without Kafka."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.tracking.events import Belief, Event
from beliefstream.inference.tracking.filtering import Outcome, replay
from beliefstream.inference.tracking.recovery.light_components import heavy_part
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import (
    ControlSensor,
    Mixture,
    Model,
    Observation,
    PositionSensor,
    Posterior,
    Prior,
    Sensor,
)
from beliefstream.streams.definitions.models import prior_change
from beliefstream.streams.definitions.observations import control_of, reading_of
from beliefstream.streams.definitions.reader import EntityModel
from beliefstream.streams.local.simulated_fleet import Simulation, fleet_model
from beliefstream.streams.settings import Accuracy, Settings
from beliefstream.streams.worker.updater import make_updater


@lru_cache(maxsize=2)
def updater(accuracy: Accuracy = "normal") -> Updater:
    """As a worker makes it."""
    return make_updater(Settings(accuracy=accuracy))


def expected(
    model: Model,
    sensors: Iterable[Sensor],
    observations: Iterable[Observation],
    priors: Iterable[Prior] = (),
    accuracy: Accuracy = "normal",
) -> dict[str, list[Outcome]]:
    """Every posterior of every entity, in order."""
    known, entity_model = {sensor.sensor: sensor for sensor in sensors}, EntityModel(model)
    events = [
        Event(prior.entity, prior.time, prior=prior_change(prior, model.coordinate_names)) for prior in priors
    ]
    for seen in observations:
        sensor = known[seen.sensor]
        if isinstance(sensor, ControlSensor):
            events.append(Event(seen.entity, seen.time, control=control_of(seen, sensor, model)))
            continue
        reading = reading_of(seen, entity_model.sensor(sensor))
        events.append(Event(seen.entity, seen.time, reading=reading))
    outcomes: dict[str, list[Outcome]] = {}
    for entity, outcome in replay(events, lambda _: entity_model.state, updater(accuracy)):
        outcomes.setdefault(entity, []).append(outcome)
    return outcomes


def distance(posterior: Mixture, outcome: Outcome) -> float:
    """The largest difference between two mixtures, component by component; infinite if they have not as many.

    Of weights as they are, of means in standard deviations of their component, of covariances relative to those.
    """
    return belief_distance(posterior, heavy_part(outcome.belief))  # which alone is published


def belief_distance(posterior: Mixture, belief: Belief) -> float:
    """As `distance`, to a belief."""
    if posterior.components != len(belief.weights):
        return float("inf")
    deviations = np.sqrt(np.diagonal(belief.covariances, axis1=1, axis2=2))
    scale = deviations[:, :, None] * deviations[:, None, :]
    parts = (
        np.asarray(posterior.weights) - belief.weights,
        (np.asarray(posterior.means) - belief.means) / deviations,
        (np.asarray(posterior.covariances) - belief.covariances) / scale,
    )
    return max(float(np.abs(part).max()) for part in parts)


def shift(posterior: Mixture, outcome: Outcome) -> float:
    """How far the mean and the spread of the whole mixture differ, in standard deviations."""
    belief = outcome.belief
    exact = Mixture(
        weights=tuple(belief.weights.tolist()), means=belief.means, covariances=belief.covariances
    )
    deviations = exact.standard_deviations()
    moved = np.abs(posterior.mean() - exact.mean()) / deviations
    spread = np.abs(posterior.standard_deviations() / deviations - 1)
    return float(max(moved.max(), spread.max()))


def bounds(outcomes: Iterable[Outcome], exact: float, refined: float) -> Iterator[float]:
    """How far from each of an entity's outcomes its posterior may be: `exact` until one is refined, then `refined`.

    Each round of a refinement draws points where the one before has come to, and makes more of what rounds differently
    in a batch of another size; where a problem is symmetric that decides which of two components are merged.
    """
    bound = exact
    for outcome in outcomes:
        bound = refined if outcome.method == "refined" else bound
        yield bound


def total_variation(posterior: Mixture, outcome: Outcome, points: int = 1000) -> float:
    """Half the integral of the difference of the two densities: 0 if they are the same, 1 if they are disjoint."""
    both = [
        GaussianMixture.from_weights(
            *(torch.as_tensor(np.asarray(part))[None] for part in (one.weights, one.means, one.covariances))
        )
        for one in (posterior, outcome.belief)
    ]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([mixture.sample(points, generator) for mixture in both], 1)
    first, second = (mixture.log_density(drawn) for mixture in both)
    return float(torch.tanh((first - second).abs() / 2).mean())


def check_order(
    found: Mapping[str, Sequence[Posterior]],
    outcomes: Mapping[str, Sequence[Outcome]],
    observations: Iterable[Observation],
) -> None:
    """Nothing lost, nothing twice, everything in order: all that does not depend on rounding."""
    assert {entity: len(taken) for entity, taken in found.items()} == {
        entity: len(due) for entity, due in outcomes.items()
    }
    ids: dict[str, list[str]] = {entity: [] for entity in found}
    for seen in observations:
        assert seen.id is not None
        ids[seen.entity].append(seen.id)
    for entity, taken in found.items():
        assert [each.sequence for each in taken] == list(range(1, len(taken) + 1))
        assert [each.time for each in taken] == [due.belief.time for due in outcomes[entity]]
        assert [name for each in taken for name in each.applied] == ids[entity]
        assert all(0 <= after - before <= 1 for before, after in pairwise(e.prior_sequence for e in taken))


def delayed(observations: Sequence[Observation], most: float, seed: int = 0) -> list[Observation]:
    """The observations as they arrive when each is up to `most` seconds under way."""
    generator = np.random.default_rng(seed)
    arrivals = [seen.time + generator.uniform(0, most) for seen in observations]
    return [observations[place] for place in np.argsort(arrivals, kind="stable")]


def messages_of(observations: Iterable[Observation], priors: Iterable[Prior] = ()) -> dict[str, int]:
    """How many there are of each entity: the sequence of its last posterior."""
    return dict(Counter([seen.entity for seen in observations] + [prior.entity for prior in priors]))


def check_ends(
    found: Mapping[str, Sequence[Posterior]],
    outcomes: Mapping[str, Sequence[Outcome]],
    exact: float,
    observations: Iterable[Observation] | None = None,
    kills: int = 0,
) -> None:
    """In whatever order the log came, every entity ends in the belief of the replay, and time never goes back.

    With `observations`, each of them is named by exactly one posterior. What a worker had sent of a batch when it was
    killed comes again in other batches, so that each of the `kills` may set an entity back once.
    """
    assert found.keys() == outcomes.keys()
    for entity, taken in found.items():
        assert distance(taken[-1].mixture, outcomes[entity][-1]) < exact, entity
        assert taken[-1].time == outcomes[entity][-1].belief.time
        assert all(before.sequence < after.sequence for before, after in pairwise(taken))
        assert sum(not _goes_on(before, after) for before, after in pairwise(taken)) <= kills, entity
    if observations is not None:
        named = Counter(name for taken in found.values() for each in taken for name in each.applied)
        assert named == Counter(seen.id for seen in observations)


def _goes_on(before: Posterior, after: Posterior) -> bool:
    again = before.time == after.time
    return before.time <= after.time and before.revision + again >= after.revision >= before.revision


def linear_fleet(simulation: Simulation, observations: int) -> tuple[Model, Sensor, list[Observation]]:
    """A fleet that one sensor without outliers sees, whose posteriors are found in closed form and float64.

    The first `observations` of the simulation's are turned into positions, with ids; the prior has two components.
    """
    sensor = PositionSensor(sensor="fleet/exact", standard_deviation=1.5)
    model = fleet_model().model_copy(update={"prior": two_places()})
    generator = np.random.default_rng(1)
    seen = []
    for number, each in enumerate(simulation.observations[:observations]):
        truth = simulation.truth_at(each.entity, each.time)[0, :2]
        value = tuple((truth + 1.5 * generator.standard_normal(2)).tolist())
        seen.append(
            Observation(
                entity=each.entity, sensor=sensor.sensor, time=each.time, value=value, id=f"o-{number}"
            )
        )
    return model, sensor, seen


def two_places() -> Mixture:
    """West or east of the plane."""
    return Mixture(
        weights=(0.4, 0.6),
        means=((-40.0, 0.0, 0.0, 0.0), (40.0, 0.0, 0.0, 0.0)),
        covariances=(tuple(map(tuple, np.diag([3600.0, 3600.0, 4.0, 4.0]).tolist())),) * 2,
    )
