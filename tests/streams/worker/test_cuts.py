"""How far posteriors depend on the way a log is cut into batches, which differs from one run of a worker to the next.

`CUTS=50 python -m pytest tests/streams/worker/test_cuts.py -s --timeout 0` prints the figures in docs/limits.md and
`test_fusion`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from beliefstream.inference.tracking.events import Belief, Event, instants
from beliefstream.inference.tracking.filtering import Outcome, Step, advance
from beliefstream.schemas import Mixture
from beliefstream.streams.definitions.observations import reading_of
from beliefstream.streams.definitions.reader import EntityModel
from beliefstream.streams.local.simulated_fleet import simulate
from beliefstream.streams.settings import Accuracy
from tests.streams.oracle import belief_distance, total_variation, updater
from tests.streams.worker.test_fusion import DOUBLE, ROUNDING, SAME, SOUND, TIPPED_SHARE

CUTS = int(os.environ.get("CUTS", "3"))


class Log:
    """Of a fleet, an entity's instants together; `outcomes` are those of one batch for each turn of all."""

    def __init__(self, accuracy: Accuracy) -> None:
        simulation = simulate(entities=20, duration=20.0, seed=3)
        known, self.model = {each.sensor: each for each in simulation.sensors}, EntityModel(simulation.model)
        events = defaultdict(list)
        for seen in simulation.observations:
            reading = reading_of(seen, self.model.sensor(known[seen.sensor]))
            events[seen.entity].append(Event(seen.entity, seen.time, reading=reading))
        self.timelines = {entity: instants(log) for entity, log in events.items()}
        self.updater = updater(accuracy)
        self.outcomes = self.advanced(None)
        self.cuts = [self.advanced(np.random.default_rng(seed)) for seed in range(CUTS)]

    def advanced(self, generator: np.random.Generator | None) -> dict[str, list[Outcome]]:
        """Every outcome of every entity, in batches of any size and order if there is a generator."""
        beliefs: dict[str, Belief] = {}
        outcomes: dict[str, list[Outcome]] = {entity: [] for entity in self.timelines}
        while left := [name for name, done in outcomes.items() if len(done) < len(self.timelines[name])]:
            if generator is not None:
                left = generator.permutation(left)[: generator.integers(1, len(left) + 1)].tolist()
            steps = [
                Step(beliefs.get(name), self.model.state, self.timelines[name][len(outcomes[name])])
                for name in left
            ]
            for name, outcome in zip(left, advance(steps, self.updater), strict=True):
                beliefs[name] = outcome.belief
                outcomes[name].append(outcome)
        return outcomes

    def pairs(self, cut: dict[str, list[Outcome]]) -> Iterator[tuple[str, list[tuple[Outcome, Outcome]]]]:
        for entity, outcomes in self.outcomes.items():
            yield entity, list(zip(cut[entity], outcomes, strict=True))


def _distance(one: Outcome, other: Outcome) -> float:
    return belief_distance(_mixture(one), other.belief)


def _mixture(outcome: Outcome) -> Mixture:
    belief: Any = outcome.belief
    return Mixture(weights=tuple(belief.weights.tolist()), means=belief.means, covariances=belief.covariances)


def test_in_double_precision_it_does_not_matter_but_for_what_is_refined() -> None:
    log = Log("normal")
    exact, refined = 0.0, 0.0
    for cut in log.cuts:
        for _, pairs in log.pairs(cut):
            sound = min(each.sample_efficiency for pair in pairs for each in pair) >= SOUND
            first = next((n for n, (_, due) in enumerate(pairs) if due.method == "refined"), len(pairs))
            apart = [_distance(one, other) for one, other in pairs]
            exact = max([exact, *apart[:first]])
            # a search and a refinement make more of a rounded digit, and decisions may tip: what is said stays the same
            later = [
                (one, other) for one, other in pairs[first:] if sound and _distance(one, other) > ROUNDING
            ]
            refined = max([refined, *(total_variation(_mixture(one), other) for one, other in later)])
    print(f"{CUTS} cuts, double precision: {exact:.1e}, from the first refined posterior on {refined:.1e}")
    assert exact < DOUBLE
    assert refined < SAME


def test_of_fast_answers_in_single_precision_few_decisions_tip_and_sound_beliefs_say_the_same() -> None:
    log = Log("fast")
    shares, largest, sound = [], 0.0, 0
    for cut in log.cuts:
        tipped = 0
        for _, pairs in log.pairs(cut):
            far = [pair for pair in pairs if _distance(*pair) > ROUNDING]
            tipped += len(far)
            if min(each.sample_efficiency for pair in pairs for each in pair) < SOUND:
                continue
            sound += 1
            largest = max([largest, *(total_variation(_mixture(one), other) for one, other in far)])
        shares.append(tipped / sum(map(len, log.outcomes.values())))
    print(
        f"{CUTS} cuts, single precision: {np.mean(shares):.3f} of the posteriors tipped, {max(shares):.3f} at most; "
        f"total variation of {sound} sound timelines {largest:.3f}"
    )
    assert max(shares) <= TIPPED_SHARE
    assert sound >= CUTS * len(log.outcomes) / 2
    assert largest < SAME
