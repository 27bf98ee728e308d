"""What counts as dishonest, as a false alarm and as near."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from research.evaluation.adversarial.answers import Answer
from research.evaluation.adversarial.mixtures import Mixture
from research.evaluation.adversarial.oracle import Distance
from research.evaluation.adversarial.report import report
from research.evaluation.adversarial.run import Finding

PLAIN = Mixture(np.ones(1), np.zeros((1, 1)), np.ones((1, 1, 1)))


def finding(
    off: float, size: float, decided: bool = True, fault: str = "", alone: float | None = None
) -> Finding:
    answer = Answer(PLAIN, size, 0.0, "refined", 0.002)
    lonely = None if alone is None else (Distance(alone, 0.0), answer)
    return Finding("some", 0, Distance(off, 0.01), answer, 0.1, decided, fault, lonely)


def test_an_answer_is_dishonest_if_it_is_off_and_does_not_say_so() -> None:
    content = report([finding(0.6, 0.6), finding(0.6, 0.4), finding(0.4, 0.9), finding(math.inf, 1.0)])
    assert content["dishonest"] == 2
    assert content["mean"] is None  # infinite
    assert [one["divergence"] for one in content["notable"]] == [0.6, None]


def test_an_answer_that_could_not_be_judged_is_reported_and_not_counted() -> None:
    content = report([finding(0.6, 0.6, decided=False), finding(0.2, 0.9)])
    assert (content["dishonest"], content["undecided"], content["mean"]) == (0, 1, 0.2)
    assert len(content["notable"]) == 1


def test_false_alarms_and_near_answers_are_counted() -> None:
    content = report([finding(0.04, 0.4), finding(0.06, 0.4), finding(0.2, 0.95), finding(0.05, 0.95)])
    assert content["false_alarms"] == 1
    assert content["near"] == 0.5


def test_faults_and_answers_that_depend_on_their_batch_are_counted() -> None:
    content = report([finding(0.1, 0.9, fault="not positive definite"), finding(0.1, 0.9, alone=0.3)])
    assert content["faults"] == 1
    assert (content["alone"], content["batch_differences"]) == (1, 1)
    assert content["batch_difference_worst"] == pytest.approx(0.2)
    assert len(content["notable"]) == 2


def test_families_stand_apart_and_json_can_hold_all_of_it() -> None:
    content = report([finding(math.inf, 1.0), finding(0.1, 1.0)])
    assert content["families"]["some"]["problems"] == 2
    assert content["families"]["some"]["milliseconds"] == pytest.approx(2.0)
    json.dumps(content, allow_nan=False)
