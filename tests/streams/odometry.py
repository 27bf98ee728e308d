"""A robot that reports its own speed and turn rate, and is seen by beacons now and then."""

from __future__ import annotations

import numpy as np

from beliefstream.schemas import (
    ControlSensor,
    Coordinate,
    Mixture,
    Model,
    Observation,
    RangeSensor,
    Sensor,
    Unicycle,
)

BEACONS = ((-30.0, 0.0), (25.0, 20.0), (5.0, -35.0))
MODEL = Model(
    entity="*",
    name="robot",
    coordinates=tuple(
        Coordinate(name=name, unit=unit) for name, unit in (("x", "m"), ("y", "m"), ("heading", "rad"))
    ),
    motion=Unicycle(position_density=0.01, heading_density=0.001),
    prior=Mixture.gaussian((0.0, 0.0, 0.0), (2.0, 2.0, 0.2)),
    live_time=False,  # the drive begins at 0
)
ODOMETRY = ControlSensor(sensor="odometry", inputs=("speed", "turn_rate"), standard_deviation=(0.05, 0.02))
SENSORS: tuple[Sensor, ...] = (
    ODOMETRY,
    *(
        RangeSensor(sensor=f"beacon-{n}", position=place, standard_deviation=0.3, outlier_probability=0.05)
        for n, place in enumerate(BEACONS)
    ),
)


def drive(entity: str, duration: float = 6.0, seed: int = 0) -> tuple[list[Observation], tuple[float, float]]:
    """What is reported, by rising time, of a drive with two bends; and where it ends, (x, y) in m.

    Odometry five times a second; a range twice a second, the last one at the end.
    """
    generator = np.random.default_rng(seed)
    x, y, heading, step = 0.0, 0.0, 0.0, 0.05
    reports: list[Observation] = []
    for tick in range(round(duration / step) + 1):
        time = tick * step
        speed, rate = 2.0 + 0.5 * np.sin(time), 0.4 if time < duration / 2 else -0.5
        if tick % 4 == 0 and time < duration:
            value = (speed + generator.normal(0, 0.05), rate + generator.normal(0, 0.02))
            reports.append(Observation(entity=entity, sensor="odometry", time=time, value=value))
        if tick % 10 == 0 and tick:
            beacon = (tick // 10) % 3
            distance = float(np.hypot(x - BEACONS[beacon][0], y - BEACONS[beacon][1]))
            name = f"{entity}-{tick}"
            seen = distance + generator.normal(0, 0.3)
            reports.append(
                Observation(entity=entity, sensor=f"beacon-{beacon}", time=time, value=seen, id=name)
            )
        end = (x, y)
        x, y, heading = (
            x + step * speed * np.cos(heading),
            y + step * speed * np.sin(heading),
            heading + step * rate,
        )
    return reports, end
