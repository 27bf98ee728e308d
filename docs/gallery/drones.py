"""Two drones in space, seen by two cameras that report angles only."""

import matplotlib.pyplot as plt
import numpy as np

from beliefstream import (
    AzimuthElevationSensor,
    Channel,
    ConstantVelocity,
    Coordinate,
    Mixture,
    Model,
    Observation,
    fuse,
)

generator = np.random.default_rng(5)
cameras = {"west": (-60.0, 0.0, 0.0), "south": (0.0, -60.0, 0.0)}
angle = Channel(standard_deviation=0.005)
sensors = [
    AzimuthElevationSensor(
        sensor=name, coordinates=("x", "y", "z"), position=place, azimuth=angle, elevation=angle
    )
    for name, place in cameras.items()
]
names = ("x", "y", "z", "vx", "vy", "vz")
model = Model(
    entity="*",
    name="drone",
    motion=ConstantVelocity(positions=names[:3], velocities=names[3:], spectral_density=1.0),
    coordinates=[Coordinate(name=name, unit="m/s" if name.startswith("v") else "m") for name in names],
    prior=Mixture.gaussian((0, 0, 25, 0, 0, 0), standard_deviations=(20, 20, 10, 5, 5, 5)),
)

times = np.arange(0, 20, 1.0)
paths = {
    "spiral": np.column_stack([15 * np.cos(times / 3), 15 * np.sin(times / 3), 15 + times]),
    "crossing": np.column_stack([-20 + 2 * times, 10 - times, np.full_like(times, 25)]),
}
observations = []
for drone, path in paths.items():
    for time, place in zip(times, path, strict=True):
        for camera, position in cameras.items():
            x, y, z = place - position
            angles = np.array([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))])
            value = tuple(angles + 0.005 * generator.standard_normal(2))
            observations.append(Observation(entity=drone, sensor=camera, time=time, value=value))

latest = {(each.entity, each.time): each for each in fuse(observations, sensors, model)}
means = {drone: np.array([latest[drone, time].mixture.mean()[:3] for time in times]) for drone in paths}
errors = np.concatenate([np.linalg.norm(means[drone] - path, axis=1) for drone, path in paths.items()])
print(f"{len(observations)} pairs of angles; median error {np.median(errors):.2f} m in space")

axes = plt.figure().add_subplot(projection="3d")
for drone, path in paths.items():
    axes.plot(*path.T, color="0.7", linewidth=3)
    axes.plot(*means[drone].T, label=drone)
axes.set(xlabel="x, m", ylabel="y, m", zlabel="z, m")
axes.legend()
plt.show()
