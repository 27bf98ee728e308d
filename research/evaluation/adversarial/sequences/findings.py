"""Runs an updater over sequences, and compares its beliefs with the exact ones at each checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from beliefstream.inference.tracking.outcomes import Outcome
from beliefstream.inference.update.updater import Updater
from research.evaluation.adversarial.answers import advanced, mixture_of
from research.evaluation.adversarial.oracle import Distance
from research.evaluation.adversarial.run import draws, is_decided
from research.evaluation.adversarial.sequences.exact import NEXT, Solution, solved
from research.evaluation.adversarial.sequences.kinds import Run, sequences
from research.evaluation.progress import Progress, silent

Solutions = dict[tuple[str, int], Solution]
"""Exact posteriors by kind and number of the run."""
RECOVERED = 0.5  # nats from the exact belief


@dataclass(frozen=True)
class Checked:
    """A belief beside the exact one.

    Attributes:
        after: number of instants before it.
        distance: KL(exact ‖ belief), nats.
        sample_efficiency: of the last update.
        accumulated_error: reported, nats.
        decided: False if the error of the oracle is too large for a comparison.
    """

    after: int
    distance: Distance
    sample_efficiency: float
    accumulated_error: float
    decided: bool

    @property
    def quality(self) -> float:
        """The less favourable of what both figures say, 0 to 1."""
        return min(self.sample_efficiency, math.exp(-self.accumulated_error))


@dataclass(frozen=True)
class RunFinding:
    """A run with its beliefs compared.

    Attributes:
        kind: of the run.
        number: index of the run in its kind.
        checked: in order of time; the last one is at the end.
        recovery: for each move that the exact belief follows, the number of updates from then on until the belief is
            recovered; None if it never is.
        evidence_error: answered minus exact log evidence of all readings, nats.
        seconds: of an update.
        exact_seconds: of the oracle; 0 if its answer was known.
    """

    kind: str
    number: int
    checked: tuple[Checked, ...]
    recovery: tuple[int | None, ...]
    evidence_error: float
    seconds: float
    exact_seconds: float


def run_findings(
    updater: Updater,
    count: int,
    seed: int,
    kinds: Sequence[str],
    progress: Progress = silent,
    known: Solutions | None = None,
) -> list[RunFinding]:
    """Return the findings of one run per `SHARE` of `count` problems of each kind, in the order of the kinds.

    `known` has exact posteriors of an earlier call with the same seed; those that it lacks are added. Raises ValueError
    for an unknown kind.
    """
    known = {} if known is None else known
    found = []
    for done, kind in enumerate(kinds):
        runs = sequences(kind, count, seed)
        answered, seconds = _outcomes(runs, updater)
        for number, run in enumerate(runs):
            started = time.perf_counter()
            if (kind, number) not in known:
                known[kind, number] = solved(run, draws(seed, number))
            spent, exact = time.perf_counter() - started, known[kind, number]
            checked = compared(exact, answered[number], seed, number)
            evidence = sum(outcome.log_evidence for outcome in answered[number])
            apart = evidence - exact.checkpoints[-1].exact.log_evidence
            followed = recovery(exact.moved, checked)
            found.append(RunFinding(kind, number, checked, followed, apart, seconds, spent))
        progress("runs", done + 1, len(kinds))
    return found


def _outcomes(runs: Sequence[Run], updater: Updater) -> tuple[list[list[Outcome]], float]:
    """Return the outcomes of each run after every instant, and the seconds of an update."""
    found: list[list[Outcome]] = [[] for _ in runs]
    spent = 0.0
    for active, outcomes, seconds in advanced([(run.model, run.instants) for run in runs], updater):
        spent += seconds
        for i, outcome in zip(active, outcomes, strict=True):
            found[i].append(outcome)
    return found, spent / sum(map(len, found))


def compared(exact: Solution, outcomes: Sequence[Outcome], seed: int, number: int) -> tuple[Checked, ...]:
    """Compare the outcome of each instant ``(n,)`` with the exact posteriors at the checkpoints."""
    made = []
    for after, posterior in exact.checkpoints:
        outcome = outcomes[after - 1]
        belief = mixture_of(outcome.belief)
        distance = posterior.divergence(belief)
        decided = is_decided(posterior, belief, distance, draws(seed, number))
        made.append(
            Checked(after, distance, outcome.sample_efficiency, float(outcome.accumulated_error), decided)
        )
    return tuple(made)


def recovery(moved: Sequence[int | None], checked: Sequence[Checked]) -> tuple[int | None, ...]:
    """Return the updates that a belief needs after each move of the exact one; None if it never recovers.

    A move after which a run ends too soon to tell is left out.
    """
    found = []
    for at in moved:
        if at is not None:
            later = [c.after - at for c in checked if c.after >= at and c.distance.value < RECOVERED]
            if later or checked[-1].after - at >= NEXT - 1:
                found.append(min(later, default=None))
    return tuple(found)
