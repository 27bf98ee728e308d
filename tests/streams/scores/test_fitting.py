"""Evidence against the joint Gaussian of all observations, and settings of a simulation found again."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from beliefstream.inference.update.settings import ROUGH
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import (
    Coordinate,
    Mixture,
    Model,
    Observation,
    PositionSensor,
    RandomWalk,
    RangeSensor,
    parse_sensor,
)
from beliefstream.streams.scores.evidence import Definitions, Recorded, evidence
from beliefstream.streams.scores.factors import MODES, Parameter, lasting, scaled
from beliefstream.streams.scores.fitting import MODES_GAIN, fit

INDEPENDENT, PERSISTENT, LASTS, DENSITY, INTERVAL = 0.1, 0.3, 20.0, 0.02, 0.5
TOTAL = math.hypot(INDEPENDENT, PERSISTENT)
NAMES = ("left", "right")


def stated(deviation: float = TOTAL, density: float = DENSITY, **lasts: float) -> Definitions:
    model = Model(
        entity="cart",
        name="cart",
        coordinates=(Coordinate(name="x", unit="m"),),
        motion=RandomWalk(spectral_density=density),
        prior=Mixture.gaussian((0.0,), (1.0,)),
        live_time=False,
    )
    sensors = (
        PositionSensor(sensor=name, coordinates=("x",), standard_deviation=deviation, **lasts)
        for name in NAMES
    )
    return Definitions(tuple(sensors), (model,))


def simulated(count: int, seed: int) -> list[Observation]:
    """Two sensors, one after the other, with errors of which a part lasts, of a walk from the prior."""
    generator = np.random.default_rng(seed)
    place, errors, found = generator.normal(), PERSISTENT * generator.normal(size=2), []
    kept = math.exp(-INTERVAL / LASTS)
    for step in range(count):
        if step:
            place += math.sqrt(DENSITY * INTERVAL) * generator.normal()
            errors = kept * errors + PERSISTENT * math.sqrt(1 - kept**2) * generator.normal(size=2)
        value = place + errors[step % 2] + INDEPENDENT * generator.normal()
        found.append(Observation(entity="cart", sensor=NAMES[step % 2], time=step * INTERVAL, value=value))
    return found


def joint(observations: list[Observation], number: Callable[[str], int]) -> float:
    """Log density of all observations as one Gaussian."""
    times = np.array([each.time for each in observations])
    values = np.array([each.values[0] for each in observations])
    of = np.array([number(each.sensor) for each in observations])
    covariance = 1.0 + DENSITY * np.minimum(times[:, None], times)
    same = of[:, None] == of
    covariance += same * PERSISTENT**2 * np.exp(-np.abs(times[:, None] - times) / LASTS)
    covariance += INDEPENDENT**2 * np.eye(len(times))
    factor = np.linalg.cholesky(covariance)
    white = np.linalg.solve(factor, values)
    return float(-0.5 * white @ white - np.log(np.diag(factor)).sum() - 0.5 * len(times) * np.log(2 * np.pi))


def test_the_evidence_is_the_joint_density_of_the_observations_on_each_part(updater: Updater) -> None:
    observations = simulated(40, seed=1)
    true = stated(INDEPENDENT, persistent_deviation=PERSISTENT, correlation_time=LASTS)
    found = evidence([true, stated()], Recorded(observations, 10.0), updater)
    assert found[0].sum() == pytest.approx(joint(observations, NAMES.index), abs=1e-6)
    first = [each for each in observations if each.time < 10.0]
    assert found[0, 0] == pytest.approx(joint(first, NAMES.index), abs=1e-6)
    assert np.all(np.abs(found[1] - found[0]) > 0.1)  # other definitions do not share its beliefs


def test_the_settings_of_a_simulation_are_found_again(updater: Updater) -> None:
    """From a motion of a tenth of the noise and a total that is known."""
    observations = simulated(600, seed=2)
    found = fit(stated(density=DENSITY / 10), Recorded(observations, 200.0), updater)
    assert found.correlation_time == LASTS
    for sensor in found.definitions.sensors:
        assert isinstance(sensor, PositionSensor)
        assert sensor.standard_deviation == pytest.approx(INDEPENDENT, rel=0.1)
        assert sensor.persistent_deviation == pytest.approx(PERSISTENT, rel=0.02)
        assert sensor.correlation_time == LASTS
    motion = found.definitions.models[0].motion
    assert isinstance(motion, RandomWalk)
    assert motion.spectral_density == pytest.approx(DENSITY, rel=0.35)
    named = {trial.name: trial for trial in found.trials}
    best, alone = named["fitted again, the rest lasts 20 s"], named["fitted"]
    assert best.first > alone.first > named["as stated"].first
    assert best.apart > alone.apart


def test_forty_observations_are_too_few(updater: Updater) -> None:
    with pytest.raises(ValueError, match=r"40 observations .* too few .* 80 are needed.*nothing is proposed"):
        fit(stated(), Recorded(simulated(40, seed=3), math.inf), updater)


def test_nothing_lasts_where_more_is_independent_than_was_stated() -> None:
    factors = {Parameter("position", "standard_deviation"): 1.5}
    independent = scaled(stated(0.2), factors)
    assert lasting(stated(0.2), independent, 5.0) == independent
    (left, _), _ = independent
    assert isinstance(left, PositionSensor)
    assert left.standard_deviation == pytest.approx(0.3)


def test_an_error_that_was_stated_to_last_counts_to_the_total(updater: Updater) -> None:
    found = fit(
        stated(INDEPENDENT, persistent_deviation=PERSISTENT, correlation_time=3.0),
        Recorded(simulated(80, seed=4), math.inf),
        updater,
        times=(LASTS,),
    )
    (left, _) = found.definitions.sensors
    assert isinstance(left, PositionSensor) and left.standard_deviation and left.persistent_deviation
    assert math.hypot(left.standard_deviation, left.persistent_deviation) == pytest.approx(TOTAL)


def test_the_rough_filter_of_a_fit_finds_nearly_the_evidence_of_a_workers_filter(updater: Updater) -> None:
    """Of ranges from four corners, a tenth of them outliers, in the plane."""
    random, place = np.random.default_rng(8), np.array([3.0, 6.0])
    corners = {"a": (0.0, 0.0), "b": (10.0, 0.0), "c": (0.0, 10.0), "d": (10.0, 10.0)}
    sensors = tuple(
        RangeSensor(
            sensor=name, position=corner, standard_deviation=0.2, outlier_probability=0.1, maximum_range=30
        )
        for name, corner in corners.items()
    )
    model = Model(
        entity="cart",
        name="cart",
        coordinates=(Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
        motion=RandomWalk(spectral_density=0.1),
        prior=Mixture.gaussian((5.0, 5.0), (4.0, 4.0)),
        live_time=False,
    )
    observations = []
    for step in range(120):
        name = "abcd"[step % 4]
        place = place + math.sqrt(0.05) * random.normal(size=2)
        value = math.dist(place, corners[name]) + 0.2 * random.normal()
        if random.uniform() < 0.1:
            value = random.uniform(0, 30)
        observations.append(Observation(entity="cart", sensor=name, time=step * 0.5, value=value))
    recorded = Recorded(observations, math.inf)
    rough, whole = (
        evidence([Definitions(sensors, (model,))], recorded, each)[0, 0]
        for each in (updater.with_settings(ROUGH), updater)
    )
    assert rough == pytest.approx(whole, abs=0.02 * len(observations))


def walked(deviations: Callable[[int], float], own: tuple[float, ...] = ()) -> list[Observation]:
    """A walk observed by both sensors each second with independent errors, with steps of a deviation at each number.

    The sensor "right" states its noise if it is given one.
    """
    random, place, found = np.random.default_rng(5), 0.0, []
    for step in range(200):
        place += deviations(step) * random.normal()
        for name in NAMES:
            noise = {"standard_deviation": own[0]} if own and name == "right" else {}
            value = place + 0.3 * random.normal()
            found.append(Observation(entity="cart", sensor=name, time=float(step), value=value, **noise))
    return found


def test_modes_are_proposed_where_the_noise_of_the_motion_changes_and_only_there(updater: Updater) -> None:
    """A walk that runs for a quarter of the time has thirty times the deviation then."""
    runs = walked(lambda step: 3.0 if step % 80 >= 60 else 0.1)
    steady = walked(lambda _: 1.0)
    found, other = (
        fit(stated(0.3, 1.0), Recorded(each, 160.0), updater, times=(), modes=True) for each in (runs, steady)
    )
    assert found.modes_gain is not None and found.modes_gain > MODES_GAIN
    (model,) = found.definitions.models
    assert model.modes == MODES and model.mode_time is not None and 5 < model.mode_time < 120
    assert found.proposed.name == "fitted, with modes"
    assert found.proposed.apart > next(each for each in found.trials if each.name == "fitted").apart
    assert other.modes_gain is not None and other.modes_gain < MODES_GAIN
    assert other.definitions.models[0].modes == () and other.proposed.name == "fitted"


def test_the_time_of_stated_modes_is_fitted_and_what_they_bring_is_told(updater: Updater) -> None:
    sensors, (model,) = stated(0.3, 1.0)
    modes = model.model_copy(update={"modes": (0.01, 10.0), "mode_time": 600.0, "components": 2})
    runs = walked(lambda step: 3.0 if step % 80 >= 60 else 0.1)
    found = fit(Definitions(sensors, (modes,)), Recorded(runs, 160.0), updater, times=(), modes=True)
    assert found.modes_gain is None  # none were tried, as the model states its own
    (fitted,) = found.definitions.models
    assert fitted.modes == (0.01, 10.0) and fitted.mode_time is not None and fitted.mode_time < 300
    named = {trial.name: trial.first for trial in found.trials}
    assert named["fitted"] > named["fitted, without modes"]
    assert named["fitted"] > named["as stated"]


@pytest.mark.parametrize("each", [False, True])
def test_a_deviation_that_no_observation_uses_stays_as_stated(updater: Updater, each: bool) -> None:
    """The right sensor states its noise in each report, and an error that lasts."""
    sensors, models = stated(0.6, 1.0)
    right = parse_sensor(
        sensors[1].model_dump(exclude_none=True) | {"persistent_deviation": 0.2, "correlation_time": 5.0}
    )
    silent = sensors[0].model_copy(update={"sensor": "silent"})
    given = Definitions((sensors[0], right, silent), models)
    observations = walked(lambda _: 1.0, own=(0.3,))
    found = fit(given, Recorded(observations, math.inf), updater, times=(5.0,), each=each)
    group = "left" if each else "position"
    assert set(found.factors) == {
        Parameter(group, "standard_deviation"),
        Parameter("motion", "spectral_density"),
    }
    left, same, _ = found.definitions.sensors
    assert same == right
    assert isinstance(left, PositionSensor) and left.standard_deviation == pytest.approx(0.3, rel=0.2)


def test_motion_alone_is_fitted_where_all_observations_state_their_noise(updater: Updater) -> None:
    observations = [each for each in walked(lambda _: 1.0, own=(0.3,)) if each.sensor == "right"]
    found = fit(stated(0.6, 0.1), Recorded(observations, math.inf), updater)
    assert set(found.factors) == {Parameter("motion", "spectral_density")}
    assert found.definitions.sensors == stated(0.6).sensors and found.correlation_time is None
    motion = found.definitions.models[0].motion
    assert isinstance(motion, RandomWalk)
    assert motion.spectral_density == pytest.approx(1.0, rel=0.3)
