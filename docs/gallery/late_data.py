"""Out-of-sequence measurements: what arrives late changes the past exactly."""

import matplotlib.pyplot as plt
import numpy as np

from beliefstream import (
    ConstantVelocity,
    Coordinate,
    Mixture,
    Model,
    Observation,
    PositionSensor,
    RangeSensor,
    fuse,
)

generator = np.random.default_rng(8)
sensors = [
    RangeSensor(sensor="radar", position=(0.0, 0.0), standard_deviation=0.5),
    PositionSensor(sensor="camera", standard_deviation=0.5),
]
model = Model(
    entity="*",
    name="cart",
    motion=ConstantVelocity(positions=("x", "y"), velocities=("vx", "vy"), spectral_density=0.05),
    coordinates=[
        Coordinate(name=name, unit=unit)
        for name, unit in (("x", "m"), ("y", "m"), ("vx", "m/s"), ("vy", "m/s"))
    ],
    prior=Mixture.gaussian((10, 0, 0, 0), standard_deviations=(5, 10, 1, 1)),
)

# distances arrive at once; pictures of the camera arrive two seconds late, after distances of later times
times = np.arange(0.0, 10.0, 0.5)
path = np.column_stack([10 + 0.2 * times, -4 + 0.8 * times])
radar = [
    Observation(
        entity="cart", sensor="radar", time=time, value=np.linalg.norm(place) + generator.normal(0, 0.5)
    )
    for time, place in zip(times, path, strict=True)
]
camera = [
    Observation(entity="cart", sensor="camera", time=time, value=tuple(place + generator.normal(0, 0.5, 2)))
    for time, place in list(zip(times, path, strict=True))[::5]
]
arrived = sorted([*radar, *camera], key=lambda each: each.time + (2.0 if each.sensor == "camera" else 0.0))

distances_only, late, in_order = (
    {posterior.time: posterior.mixture for posterior in fuse(each, sensors, model)}
    for each in (radar, arrived, sorted(arrived, key=lambda each: each.time))
)
errors = np.array(
    [np.linalg.norm(late[time].mean()[:2] - place) for time, place in zip(times, path, strict=True)]
)
change = max(np.abs(late[time].mean() - in_order[time].mean()).max() for time in times)
print(f"median error {np.median(errors):.2f} m; the order of arrival changes a mean by at most {change:.0e}")

for label, beliefs, colour in (
    ("distances only", distances_only, "tab:orange"),
    ("with late pictures", late, "tab:blue"),
):
    means = np.array([beliefs[time].mean()[:2] for time in times])
    plt.plot(*means.T, "o-", color=colour, markersize=3, label=label)
plt.plot(*path.T, color="0.7", linewidth=4, zorder=0, label="driven")
plt.axis("equal")
plt.legend()
plt.show()
