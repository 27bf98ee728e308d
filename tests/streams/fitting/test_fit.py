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
)
from beliefstream.streams.fitting import fit as fitting
from beliefstream.streams.fitting.evidence import Definitions, Recorded, evidence
from beliefstream.streams.fitting.factors import MODES, Parameter, lasting, scaled
from beliefstream.streams.fitting.fit import fit

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


def walked(steps: Callable[[int], float], own: float | None = None) -> Recorded:
    """Walks of four carts for 48 seconds, observed each second by both sensors with independent errors.

    Args:
        steps: deviation of the step of a walk at each second.
        own: deviation that each report of the sensor "right" states; None: none does.
    """
    random, places, found = np.random.default_rng(5), np.zeros(4), []
    for second in range(48):
        places = places + steps(second) * random.normal(size=4)
        for cart, place in enumerate(places):
            for name in NAMES:
                value = place + 0.3 * random.normal()
                noise = own if name == "right" else None
                found.append(
                    Observation(
                        entity=f"cart-{cart}", sensor=name, time=second, value=value, standard_deviation=noise
                    )
                )
    return Recorded(found, 16.0)


def of_all(deviation: float, density: float, **fields: object) -> Definitions:
    sensors, (model,) = stated(deviation, density)
    return Definitions(sensors, (model.model_copy(update={"entity": "*"} | fields),))


def runs(second: int) -> float:
    return 3.0 if second % 12 >= 8 else 0.1


@pytest.fixture
def roughly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit of seconds, which stops before it has found all digits."""
    monkeypatch.setattr(fitting, "EVALUATIONS", 10)


@pytest.mark.usefixtures("roughly")
@pytest.mark.parametrize("changes", [True, False])
def test_modes_are_proposed_where_the_noise_of_the_motion_changes_and_only_there(
    updater: Updater, changes: bool
) -> None:
    recorded = walked(runs if changes else lambda _: 1.0)
    found = fit(of_all(0.3, 1.0), recorded, updater, times=(), modes=True)
    (model,) = found.definitions.models
    named = {trial.name: trial for trial in found.trials}
    assert found.modes_gain is not None and (found.modes_gain > fitting.MODES_GAIN) == changes
    if changes:
        assert model.modes == MODES and model.mode_time is not None and 2 < model.mode_time < 30
        assert found.proposed.name == "fitted, with modes"
        assert found.proposed.apart > named["fitted"].apart
    else:
        assert model.modes == () and model.mode_time is None and found.proposed.name == "fitted"
    assert found.applied(of_all(0.3, 1.0)) == found.definitions


@pytest.mark.usefixtures("roughly")
def test_the_time_of_stated_modes_is_fitted_and_what_they_bring_is_told(updater: Updater) -> None:
    modes = (0.01, 10.0)
    given = of_all(0.3, 1.0, modes=modes, mode_time=600.0, components=2)
    found = fit(given, walked(runs), updater, times=(), modes=True)
    assert found.modes_gain is None  # none were tried, as the model states its own
    (fitted,) = found.definitions.models
    assert fitted.modes == modes and fitted.mode_time is not None and fitted.mode_time < 200
    named = {trial.name: trial for trial in found.trials}
    assert found.proposed == named["fitted"]
    assert named["fitted"].first > named["as stated"].first > named["fitted, without modes"].first


@pytest.mark.usefixtures("roughly")
@pytest.mark.parametrize("each", [False, True])
def test_a_deviation_that_no_observation_uses_stays_as_stated(updater: Updater, each: bool) -> None:
    """The right sensor states its noise in each report, and an error that lasts; one reports later, one never."""
    (left, right), models = of_all(0.6, 1.0)
    lasts = {"persistent_deviation": 0.2, "correlation_time": 5.0}
    right = right.model_copy(update=lasts)
    silent, late = (left.model_copy(update={"sensor": name}) for name in ("silent", "late"))
    observations, split = walked(lambda _: 1.0, own=0.3)
    observations = [*observations, Observation(entity="cart-0", sensor="late", time=47, value=0.0)]
    recorded = Recorded(observations, split)
    given = Definitions((left, right, silent, late), models)
    found = fit(given, recorded, updater, times=(5.0,), each=each)
    group = "left" if each else "position"
    motion = Parameter("motion", "spectral_density")
    assert found.factors.keys() == {Parameter(group, "standard_deviation"), motion}
    fitted, same, *others = found.definitions.sensors
    assert same == right
    assert isinstance(fitted, PositionSensor)
    assert fitted.standard_deviation and fitted.standard_deviation < 0.6 and fitted.correlation_time == 5.0
    assert (others == [silent, late]) == each


@pytest.mark.usefixtures("roughly")
def test_the_motion_alone_is_fitted_where_all_observations_state_their_noise(updater: Updater) -> None:
    observations, split = walked(lambda _: 1.0, own=0.3)
    recorded = Recorded([each for each in observations if each.sensor == "right"], split)
    found = fit(of_all(0.6, 0.1), recorded, updater)
    assert found.factors.keys() == {Parameter("motion", "spectral_density")}
    assert found.definitions.sensors == of_all(0.6, 0.1).sensors and found.correlation_time is None
    motion = found.definitions.models[0].motion
    assert isinstance(motion, RandomWalk)
    assert motion.spectral_density == pytest.approx(1.0, rel=0.4)


def test_what_has_no_number_that_is_used_is_refused(updater: Updater) -> None:
    observations, split = walked(lambda _: 1.0, own=0.3)
    recorded = Recorded([each for each in observations if each.sensor == "right"], split)
    with pytest.raises(ValueError, match=r"use no number that can be fitted; nothing is proposed"):
        fit(of_all(0.6, 0.0), recorded, updater)
