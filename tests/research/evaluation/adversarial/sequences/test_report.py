"""What counts as dishonest, too low, a false alarm and a recovery of a run."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from beliefstream.inference.tracking.accumulated_error import AccumulatedError
from beliefstream.inference.tracking.events import Belief
from beliefstream.inference.tracking.outcomes import Outcome
from research.evaluation.adversarial.oracle import Distance
from research.evaluation.adversarial.sequences.exact import solved
from research.evaluation.adversarial.sequences.findings import Checked, RunFinding, compared, recovery
from research.evaluation.adversarial.sequences.report import report
from tests.research.evaluation.adversarial.sequences.test_exact import kalman, linear_run


def checked(
    off: float, quality: float = 0.9, reported: float = 0.1, decided: bool = True, after: int = 1
) -> Checked:
    return Checked(after, Distance(off, 0.01), quality, reported, decided)


def finding(*some: Checked, recovery: tuple[int | None, ...] = ()) -> RunFinding:
    return RunFinding("some", 0, some, recovery, -0.1, 0.002, 1.5)


def test_a_belief_made_wrong_on_purpose_is_dishonest_unless_it_says_so() -> None:
    run = linear_run()
    solution, right = solved(run, np.random.default_rng(1)), kalman(run)

    def found(shift: float, efficiency: float, error: float) -> dict[str, object]:
        outcomes = [
            Outcome(
                Belief(
                    0.0, each.weights, each.means + shift, each.covariances, error=AccumulatedError(error)
                ),
                efficiency,
                0.0,
                1.0,
                "kalman",
            )
            for each in right
        ]
        return report([finding(*compared(solution, outcomes, 0, 0))])

    assert found(0.0, 1.0, 0.0)["dishonest"] == 0
    wrong = found(0.3, 1.0, 0.01)
    assert wrong["dishonest"] == 1
    assert wrong["too_low"] == 1.0
    assert wrong["undecided"] == 0
    # the divergence of two Gaussians that are a shift apart
    covariance = right[-1].covariances[0]
    expected = 0.5 * float(np.full(2, 0.3) @ np.linalg.solve(covariance, np.full(2, 0.3)))
    assert wrong["worst"] == pytest.approx(expected, rel=0.02)
    assert found(0.3, 0.2, 0.01)["dishonest"] == 0
    assert found(0.3, 1.0, 0.01 + expected)["dishonest"] == 0


def test_one_checkpoint_makes_a_run_dishonest_or_a_false_alarm() -> None:
    off, good, alarm = checked(0.6), checked(0.01), checked(0.01, 0.4)
    content = report(
        [finding(good, off, good), finding(off, off), finding(good, alarm), finding(alarm, alarm, good)]
    )
    assert (content["runs"], content["checkpoints"], content["dishonest"], content["false_alarms"]) == (
        4,
        10,
        2,
        2,
    )
    assert content["too_low"] == pytest.approx(3 / 10)


def test_a_quality_is_at_most_what_the_reported_error_allows() -> None:
    assert checked(0.6, 0.9, 2.0).quality == pytest.approx(math.exp(-2))
    assert report([finding(checked(0.6, 0.9, 2.0))])["dishonest"] == 0


def test_what_the_oracle_cannot_judge_is_left_out() -> None:
    content = report([finding(checked(0.6, decided=False)), finding(checked(0.2))])
    assert (content["dishonest"], content["undecided"], content["mean"]) == (0, 1, 0.2)
    assert content["too_low"] == 1.0  # .2 nats where .1 are reported


def test_recovery_counts_updates_from_where_the_exact_belief_moves() -> None:
    some = [checked(off, after=after) for after, off in ((5, 0.1), (8, 9.0), (9, 3.0), (10, 0.4), (20, 9.0))]
    assert recovery((8, None, 10, 17), some) == (2, 0, None)
    assert recovery((18,), some) == ()  # the run ends before the belief could follow
    content = report([finding(*some, recovery=(2, 0, None))])
    assert content["recovery"] == {"moves": 3, "median": 1.0, "worst": 2, "never": 1}


def test_kinds_stand_apart_and_json_can_hold_all_of_it() -> None:
    content = report([finding(checked(math.inf)), replace(finding(checked(0.1)), kind="other")])
    assert content["families"]["some"]["worst"] is None
    assert content["families"]["other"]["worst"] == 0.1
    assert content["each"][0]["checkpoints"][0]["divergence"] is None
    json.dumps(content, allow_nan=False)
