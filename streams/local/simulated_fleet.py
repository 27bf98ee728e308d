"""A simulated fleet with known truth: entities move in a plane, and sensors with noise and outliers observe them.

`report` draws the report of a sensor with Gaussian noise and outliers, as `schemas.sensors` defines them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beliefstream.schemas import (
    BearingSensor,
    ConstantVelocity,
    Coordinate,
    LinearSensor,
    Mixture,
    Model,
    Observation,
    PositionSensor,
    RangeSensor,
)

Array = NDArray[np.float64]
Simulated: TypeAlias = PositionSensor | LinearSensor | RangeSensor | BearingSensor

HALF_WIDTH = 100.0  # m; half the side of the plane, centred on the origin
OUTLIER_WIDENING = 10.0  # factor on the noise of outlying positions and linear sensors
SPECTRAL_DENSITY = 0.2  # m²/s³, of the motion and of the model
TIME_STEP = 0.1  # s
TICK = 1e-6  # s; event times are whole ticks, which float64 resolves at current times
SLOWEST, FASTEST = 1.0, 3.0  # m/s
# Soft limits, small compared with the noise of the motion, so that constant velocity still describes it. Outside its
# limits the speed relaxes at SPEED_RATE. In the outer MARGIN of the plane a spring pulls back; it turns an entity at
# 3 m/s around within 20 m.
SPEED_RATE = 1.0  # 1/s
MARGIN = 30.0  # m
SPRING = 0.15**2  # 1/s²

_UNITS = {"x": "m", "y": "m", "vx": "m/s", "vy": "m/s"}


@dataclass(frozen=True, eq=False)
class Simulation:
    """Reports of the sensors and true states of the entities."""

    model: Model  # of every entity (`*`); its prior applies at the time of the first observation
    sensors: tuple[Simulated, ...]  # that the observations name
    observations: list[Observation]  # sorted by time, no two at the same time
    entities: tuple[str, ...]  # names of the E entities
    times: Array  # (T,), seconds since the epoch, evenly spaced
    truth: Array  # (E, T, 4), the true x, y (m), vx, vy (m/s) at those times

    def truth_at(self, entity: str, times: ArrayLike) -> Array:
        """Return the true state (N, 4) of one entity at N times.

        Raises:
            KeyError: the entity does not exist.
            ValueError: a time is outside the simulation.
        """
        if entity not in self.entities:
            raise KeyError(f"no entity is called {entity!r}")
        wanted = np.atleast_1d(np.asarray(times, dtype=np.float64))
        return _between(self.times, self.truth[self.entities.index(entity)], wanted)


def simulate(
    entities: int = 50, duration: float = 60.0, rate: float = 2.0, seed: int = 0, epoch: float = 0.0
) -> Simulation:
    """Simulate a fleet in a plane of 200 m by 200 m, observed by two positions, four ranges and three bearings.

    Args:
        entities: number of entities.
        duration: duration in seconds.
        rate: mean number of reports of each entity per second; each is from a sensor chosen at random.
        seed: seed of the random numbers.
        epoch: start of the simulation, in seconds since the epoch; it only shifts the times.

    Raises:
        ValueError: a number is not positive.
    """
    for name, given in {"entities": entities, "duration": duration, "rate": rate}.items():
        if not (given > 0 and math.isfinite(given)):
            raise ValueError(f"{name} must be positive, got {given}")
    generator = np.random.default_rng(seed)
    times, truth = _move(entities, duration, generator)
    names = tuple(f"entity-{number:0{len(str(entities))}d}" for number in range(1, entities + 1))
    sensors = fleet_sensors()
    observed, report_times = _schedule(entities, duration, rate, generator)
    chosen = generator.integers(len(sensors), size=len(observed))
    states = _states(times, truth, observed, report_times)
    observations = [
        Observation(
            entity=names[entity],
            sensor=sensors[sensor].sensor,
            time=epoch + time,
            value=report(sensors[sensor], dict(zip(_UNITS, state, strict=True)), generator),
        )
        for entity, time, sensor, state in zip(
            observed.tolist(), report_times.tolist(), chosen.tolist(), states.tolist(), strict=True
        )
    ]
    return Simulation(fleet_model(), sensors, observations, names, epoch + times, truth)


def report(
    sensor: Simulated, state: dict[str, float], generator: np.random.Generator
) -> float | tuple[float, ...]:
    """Draw one report of a sensor, with its calibration, noise and outliers.

    Raises:
        KeyError: the state, which has the true value of each coordinate, lacks one that the sensor observes.
    """
    outlier = bool(generator.random() < sensor.outlier_probability)
    if isinstance(sensor, RangeSensor):
        return _report_range(sensor, state, outlier, generator)
    if isinstance(sensor, BearingSensor):
        return _report_bearing(sensor, state, outlier, generator)
    return _report_linear(sensor, state, outlier, generator)


def _report_range(
    sensor: RangeSensor, state: dict[str, float], outlier: bool, generator: np.random.Generator
) -> float:
    if outlier:
        return sensor.scale * generator.uniform(0.0, sensor.maximum_range) + sensor.bias
    distance = math.dist([state[name] for name in sensor.coordinates], sensor.position)
    return sensor.scale * distance + sensor.bias + generator.normal(0.0, sensor.standard_deviation)


def _report_bearing(
    sensor: BearingSensor, state: dict[str, float], outlier: bool, generator: np.random.Generator
) -> float:
    """Report a bearing; the angle is wrapped to [-pi, pi] before it is scaled."""
    if outlier:
        angle = generator.uniform(-math.pi, math.pi)
    else:
        first, second = (
            state[name] - place for name, place in zip(sensor.coordinates, sensor.position, strict=True)
        )
        noise = generator.normal(0.0, sensor.standard_deviation) / sensor.scale
        angle = math.remainder(math.atan2(second, first) - sensor.orientation + noise, math.tau)
    return sensor.scale * angle + sensor.bias


def _report_linear(
    sensor: PositionSensor | LinearSensor,
    state: dict[str, float],
    outlier: bool,
    generator: np.random.Generator,
) -> float | tuple[float, ...]:
    if isinstance(sensor, PositionSensor):
        exact = np.array([state[name] for name in sensor.coordinates])
    else:
        exact = np.array([sum(row[name] * state[name] for name in row) for row in sensor.rows])
    noise = generator.standard_normal(exact.size) * (OUTLIER_WIDENING if outlier else 1.0)
    if sensor.covariance is not None:
        noise = np.linalg.cholesky(np.asarray(sensor.covariance)) @ noise
    elif sensor.standard_deviation is not None:
        noise *= sensor.standard_deviation
    values: list[float] = (sensor.scale * exact + sensor.bias + noise).tolist()
    return values[0] if len(values) == 1 else tuple(values)


def fleet_model() -> Model:
    """Return a model of constant velocity in the plane, with a prior that covers the whole plane."""
    return Model(
        entity="*",
        name="fleet",
        coordinates=tuple(Coordinate(name=name, unit=unit) for name, unit in _UNITS.items()),
        motion=ConstantVelocity(
            positions=("x", "y"), velocities=("vx", "vy"), spectral_density=SPECTRAL_DENSITY
        ),
        prior=Mixture.gaussian((0.0, 0.0, 0.0, 0.0), (60.0, 60.0, 2.0, 2.0)),
        live_time=False,
    )


def fleet_sensors() -> tuple[Simulated, ...]:
    """Return two position sensors, ranges to the four corners, and bearings from three stations outside the plane."""
    corners = [(side * HALF_WIDTH, end * HALF_WIDTH) for side in (-1, 1) for end in (-1, 1)]
    stations = [(0.0, -110.0), (-110.0, 55.0), (110.0, 55.0)]
    return (
        PositionSensor(sensor="fleet/position-1", standard_deviation=1.5),
        PositionSensor(sensor="fleet/position-2", standard_deviation=1.5, outlier_probability=0.1),
        *(
            RangeSensor(
                sensor=f"fleet/range-{number}",
                position=corner,
                standard_deviation=0.5,
                maximum_range=300.0,
                outlier_probability=0.2 if number == 4 else 0.0,
            )
            for number, corner in enumerate(corners, 1)
        ),
        *(
            BearingSensor(
                sensor=f"fleet/bearing-{number}",
                position=station,
                standard_deviation=0.03,
                outlier_probability=0.1 if number == 3 else 0.0,
            )
            for number, station in enumerate(stations, 1)
        ),
    )


def _move(entities: int, duration: float, generator: np.random.Generator) -> tuple[Array, Array]:
    """Return times (T,) from 0 to a step beyond the duration, and the states (E, T, 4) at those times."""
    times = np.arange(math.ceil(duration / TIME_STEP) + 2, dtype=np.float64) * TIME_STEP
    truth = np.empty((entities, len(times), 4))
    truth[:, 0, :2] = generator.uniform(MARGIN - HALF_WIDTH, HALF_WIDTH - MARGIN, (entities, 2))
    speed = generator.uniform(SLOWEST, FASTEST, entities)
    course = generator.uniform(-math.pi, math.pi, entities)
    truth[:, 0, 2:] = np.stack([speed * np.cos(course), speed * np.sin(course)], axis=1)
    # Exact discretisation of white-noise acceleration: the covariance of (position, velocity) over one step.
    covariance = SPECTRAL_DENSITY * np.array(
        [[TIME_STEP**3 / 3, TIME_STEP**2 / 2], [TIME_STEP**2 / 2, TIME_STEP]]
    )
    factor = np.linalg.cholesky(covariance)
    for step in range(1, len(times)):
        position, velocity = truth[:, step - 1, :2], truth[:, step - 1, 2:]
        noise = generator.standard_normal((entities, 2, 2)) @ factor.T  # [..., 0] position, [..., 1] velocity
        pull = _pull(position, velocity)
        truth[:, step, :2] = position + velocity * TIME_STEP + pull * TIME_STEP**2 / 2 + noise[..., 0]
        truth[:, step, 2:] = velocity + pull * TIME_STEP + noise[..., 1]
    return times, truth


def _pull(position: Array, velocity: Array) -> Array:
    """Return the acceleration (E, 2) that keeps entities in the plane and their speed within its limits."""
    inner = HALF_WIDTH - MARGIN
    speed = np.linalg.norm(velocity, axis=1, keepdims=True)
    change = np.clip(speed, SLOWEST, FASTEST) / np.maximum(speed, 1e-9) - 1
    pull: Array = SPRING * (np.clip(position, -inner, inner) - position) + SPEED_RATE * change * velocity
    return pull


def _schedule(
    entities: int, duration: float, rate: float, generator: np.random.Generator
) -> tuple[NDArray[np.int64], Array]:
    """Draw the observed entity (N,) and the time (N,) of each report, sorted by time, no two at the same tick."""
    most = math.ceil(2 * duration * rate) + 1  # an interval is at least half the mean
    intervals = generator.uniform(0.5 / rate, 1.5 / rate, (entities, most))
    intervals[:, 0] = generator.uniform(0.0, 1.0 / rate, entities)
    due = np.cumsum(intervals, axis=1)
    observed, index = np.nonzero(due < duration)
    moments = due[observed, index]
    order = np.argsort(moments, kind="stable")
    ticks = np.rint(moments[order] / TICK).astype(np.int64)
    rank = np.arange(len(ticks))
    distinct = np.maximum.accumulate(ticks - rank) + rank
    return observed[order], distinct.astype(np.float64) * TICK


def _states(times: Array, truth: Array, observed: NDArray[np.int64], report_times: Array) -> Array:
    """Return the state (N, 4) of each report's entity at the time of the report."""
    states = np.empty((len(observed), truth.shape[2]))
    for entity, path in enumerate(truth):
        rows = observed == entity
        states[rows] = _between(times, path, report_times[rows])
    return states


def _between(times: Array, states: Array, wanted: Array) -> Array:
    """Interpolate states (N, 4) at the wanted times by the cubic through positions and velocities at both ends.

    The cubic is the mean of the constant-velocity process between two states; the standard deviation there is at most
    1 mm. Velocities are the derivatives of positions.
    """
    outside = wanted[~((wanted >= times[0]) & (wanted <= times[-1]))]
    if outside.size:
        raise ValueError(f"time {outside[0]} is outside the simulation, {times[0]} to {times[-1]}")
    left = np.clip(np.searchsorted(times, wanted, side="right") - 1, 0, len(times) - 2)
    width = (times[left + 1] - times[left])[:, None]
    s = (wanted - times[left])[:, None] / width
    p0, v0 = states[left, :2], states[left, 2:]
    p1, v1 = states[left + 1, :2], states[left + 1, 2:]
    step = (p1 - p0) / width
    position = p0 + width * (s * v0 + s**2 * (3 * step - 2 * v0 - v1) + s**3 * (v0 + v1 - 2 * step))
    velocity = v0 + 2 * s * (3 * step - 2 * v0 - v1) + 3 * s**2 * (v0 + v1 - 2 * step)
    return np.concatenate([position, velocity], axis=1)
