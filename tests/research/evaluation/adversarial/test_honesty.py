"""How honest the library is on adversarial problems, as bounds.

A few problems of each family here, 2 000 in the soak; `python -m research.evaluate --family adversarial` prints the
table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from beliefstream.inference.network.weights import load
from beliefstream.inference.update.settings import WORKER, UpdateSettings
from beliefstream.inference.update.updater import Updater
from research.evaluation.adversarial.answers import chain_answers
from research.evaluation.adversarial.chains import static
from research.evaluation.adversarial.families import FAMILIES
from research.evaluation.adversarial.report import report
from research.evaluation.adversarial.run import findings

SETTINGS = {"library": UpdateSettings(), "worker": WORKER}
# problems a family, and how many may be dishonest, at fault, or another answer alone
FEW = {"library": (2, 1, 0, 1), "worker": (1, 1, 0, 1)}
MANY = {"library": 8, "worker": 8}  # dishonest of 67 a family


def found(setting: str, count: int, seed: int, families: list[str] | None = None) -> dict[str, Any]:
    updater = Updater(load(), settings=SETTINGS[setting])
    return report(findings(updater, count, seed, families))


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_more_answers_than_these_are_dishonest(setting: str) -> None:
    count, dishonest, faults, differences = FEW[setting]
    content = found(setting, count, 20, list(FAMILIES))
    assert content["dishonest"] <= dishonest, content["notable"]
    assert content["faults"] <= faults, content["notable"]
    assert content["batch_differences"] <= differences, content["notable"]
    assert content["undecided"] <= 1


@pytest.mark.soak
@pytest.mark.parametrize("setting", SETTINGS)
def test_two_thousand_problems(setting: str) -> None:
    content = found(setting, 67, 21)
    for name, row in content["families"].items():
        print(name, row)
    assert content["problems"] >= 2000
    assert content["dishonest"] <= MANY[setting], content["notable"]
    assert content["undecided"] <= 0.01 * content["problems"]
    assert content["false_alarms"] <= 0.02 * content["problems"]
    assert content["near"] >= 0.99


def test_a_chain_of_weak_reports_stays_near() -> None:
    chain = static(np.random.default_rng(1), updates=40)
    (answer,) = chain_answers([chain], Updater(load()))
    distance = chain.exact(np.random.default_rng(2)).divergence(answer.mixture)
    assert distance.value < 0.1
    assert distance.error < 0.02
