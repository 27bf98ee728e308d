"""Mass that an answer misses lowers its quality, on problems where one pass or a coarse scan did not see it."""

from __future__ import annotations

import numpy as np
import pytest

from beliefstream.inference.evaluation.adversarial.answers import answers
from beliefstream.inference.evaluation.adversarial.families import problems
from beliefstream.inference.evaluation.adversarial.oracle import solve
from beliefstream.inference.network import weights
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.updater import Updater

LIBRARY, WORKER = UpdateSettings(), UpdateSettings(refine_below=0.7, repeat_below=0.5)


@pytest.mark.parametrize(
    ("family", "number", "settings"),
    [
        # three per cent of the mass on a ring a hundred-thousandth as thick as the prior, beside a sharp peak
        pytest.param("noise 1e-5", 43, LIBRARY, id="thin ring"),
        # a tenth of the mass where the ranges bend moderately and nothing is surprising
        pytest.param("growing deviation", 32, WORKER, id="moderate bend"),
        # components of the prior that differ in velocity and acceleration were merged
        pytest.param("9 coordinates", 28, WORKER, id="unseen coordinates"),
    ],
)
def test_an_answer_that_misses_mass_does_not_claim_to_be_good(
    family: str, number: int, settings: UpdateSettings
) -> None:
    problem = problems(family, number + 1, 406)[number]
    answer = answers([problem], Updater(weights.load(), settings=settings))[0]
    exact = solve(problem.prior, problem.readings, np.random.default_rng(5))
    assert not (exact.divergence(answer.mixture).value > 0.5 and answer.effective_sample_size > 0.5)
