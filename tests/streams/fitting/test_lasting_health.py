"""Health of sensors of whose error a part lasts, on a simulated stream."""

from __future__ import annotations

import pytest

from beliefstream.inference.tracking.health.verdicts import Verdict, assess
from beliefstream.inference.update.updater import Updater
from beliefstream.streams.fitting.evidence import Definitions
from beliefstream.streams.scores.tracks import defined
from research.recordings.health import judge
from tests.streams.fitting.test_fit import INDEPENDENT, LASTS, PERSISTENT, simulated, stated


def verdicts(definitions: Definitions, updater: Updater, seed: int) -> set[Verdict]:
    log = defined(*definitions)
    for each in simulated(1500, seed):
        log.add(each.to_json())
    return {assess(window).verdict for window in judge(log, updater, 3600.0).values()}


@pytest.mark.parametrize("seed", [21, 22])
def test_an_error_that_lasts_is_not_called_noise(updater: Updater, seed: int) -> None:
    assert verdicts(stated(INDEPENDENT), updater, seed) == {"lasting"}
    fitted = stated(INDEPENDENT, persistent_deviation=PERSISTENT, correlation_time=LASTS)
    assert verdicts(fitted, updater, seed) == {"healthy"}
