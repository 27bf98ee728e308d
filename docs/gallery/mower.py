"""A lawn mower ranged by four radio beacons, one distance at a time."""

import matplotlib.pyplot as plt
import numpy as np

from beliefstream import ConstantVelocity, Coordinate, Mixture, Model, Observation, RangeSensor, fuse

generator = np.random.default_rng(1)
beacons = {"north-west": (0, 40), "north-east": (40, 40), "south-west": (0, 0), "south-east": (40, 0)}
sensors = [
    RangeSensor(sensor=name, position=place, standard_deviation=0.5, outlier_probability=0.05)
    for name, place in beacons.items()
]
model = Model(
    entity="mower",
    name="mower",
    motion=ConstantVelocity(positions=("x", "y"), velocities=("vx", "vy"), spectral_density=0.1),
    coordinates=[
        Coordinate(name=name, unit=unit)
        for name, unit in (("x", "m"), ("y", "m"), ("vx", "m/s"), ("vy", "m/s"))
    ],
    prior=Mixture.gaussian((20, 20, 0, 0), standard_deviations=(15, 15, 1, 1)),
)

# lanes of 30 m at 1 m/s; every half second one beacon reports, and one report in twenty is an outlier
corners = np.array([(5, 5), (35, 5), (35, 12), (5, 12), (5, 19), (35, 19)])
lengths = np.r_[0, np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))]
times = np.arange(0, lengths[-1], 0.5)
path = np.column_stack([np.interp(times, lengths, corners[:, axis]) for axis in (0, 1)])
observations = []
for number, (time, place) in enumerate(zip(times, path, strict=True)):
    beacon = list(beacons)[number % 4]
    distance = np.linalg.norm(place - beacons[beacon]) + 0.5 * generator.standard_normal()
    if generator.random() < 0.05:
        distance = generator.uniform(0, 100)
    observations.append(Observation(entity="mower", sensor=beacon, time=time, value=max(distance, 0.0)))

posteriors = fuse(observations, sensors, model)
means = np.array([posterior.mixture.mean()[:2] for posterior in posteriors])
errors = np.linalg.norm(means - path, axis=1)
print(f"{len(posteriors)} distances; median error {np.median(errors):.2f} m")

plt.plot(*path.T, color="0.7", linewidth=4, label="driven")
plt.plot(*means.T, color="tab:blue", label="believed")
plt.plot(*np.transpose(list(beacons.values())), "k^", label="beacons")
plt.axis("equal")
plt.legend(loc="center")
plt.show()
