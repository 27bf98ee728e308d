"""The health of sensors at the end of a log leaves out what `fuse` leaves out."""

from __future__ import annotations

import json

import numpy as np

from beliefstream.inference.tracking.health.columns import Sum
from beliefstream.schemas import PositionSensor
from beliefstream.streams.local.offline_log import Log
from beliefstream.streams.local.simulated_fleet import fleet_model
from research.recordings.health import judge
from tests.streams.oracle import updater

BEYOND = 1e300  # its square overflows, so the posterior is not finite
WINDOW = 1000.0


def log_of(observed: dict[int, float]) -> Log:
    """Positions of one entity, by second; those beyond all measure are of a sensor `absurd`, the others of `sound`."""
    log = Log()
    for name in ("sound", "absurd"):
        log.define_sensor(PositionSensor(sensor=name, standard_deviation=1.5))
    log.define_model(fleet_model().model_copy(update={"entity": "truck"}))
    for second, value in observed.items():
        sensor = "absurd" if value == BEYOND else "sound"
        fields = {"entity": "truck", "sensor": sensor, "time": float(second), "value": [value, 2.0]}
        log.add(json.dumps({**fields, "id": f"{sensor}-{second}"}).encode())
    return log


def test_an_observation_whose_posterior_is_not_finite_does_not_count_for_the_health_of_sensors() -> None:
    log = log_of({1: 0.0, 2: BEYOND, 3: 1.0, 4: 2.0})
    assert len(list(log.fuse(updater()))) == 3
    assert log.failed == ["absurd-2"]

    judged = judge(log, updater(), WINDOW)

    assert judged.keys() == {"sound"}
    alone = judge(log_of({1: 0.0, 3: 1.0, 4: 2.0}), updater(), WINDOW)
    np.testing.assert_array_equal(judged["sound"].total(), alone["sound"].total())
    assert np.isfinite(judged["sound"].total()).all()


def test_a_prior_at_the_time_of_an_observation_leaves_the_health_of_its_sensor() -> None:
    log, plain = log_of({1: 0.0, 2: 1.0, 3: 2.0}), log_of({1: 0.0, 2: 1.0, 3: 2.0})
    size = len(fleet_model().coordinates)
    mixture = {"weights": [1.0], "means": [[0.0] * size], "covariances": [(9.0 * np.eye(size)).tolist()]}
    log.add(json.dumps({"entity": "truck", "time": 2.0, "mixture": mixture}).encode())
    assert len(list(log.fuse(updater()))) == 4
    judged, alone = (judge(each, updater(), WINDOW)["sound"].total() for each in (log, plain))
    assert judged[:, Sum.REPORTS].tolist() == alone[:, Sum.REPORTS].tolist() == [3.0, 3.0]
