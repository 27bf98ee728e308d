"""Ships that report latitude and longitude, until one falls silent."""

import matplotlib.pyplot as plt
import numpy as np

from beliefstream import (
    Coordinate,
    DecayingVelocity,
    Geodetic,
    GeodeticSensor,
    Mixture,
    Model,
    Observation,
    fuse,
)

generator = np.random.default_rng(2)
origin = Geodetic(latitude=50.75, longitude=-1.25)
sensor = GeodeticSensor(sensor="ais", origin=origin, standard_deviation=10.0, outlier_probability=0.02)
model = Model(
    entity="*",
    name="ship",
    motion=DecayingVelocity(
        positions=("x", "y"), velocities=("vx", "vy"), time_constant=500.0, spectral_density=0.02
    ),
    coordinates=[
        Coordinate(name=name, unit=unit)
        for name, unit in (("x", "m"), ("y", "m"), ("vx", "m/s"), ("vy", "m/s"))
    ],
    prior=Mixture.gaussian((0, 0, 0, 0), standard_deviations=(5000, 5000, 5, 5)),
)
metres = np.array([111_200.0, 111_200.0 * np.cos(np.radians(origin.latitude))])  # a degree of each

# a report every ten seconds for ten minutes; the ferry is silent for five of them
tracks = {"ferry": ((-2000.0, -500.0), (6.0, 1.0)), "tanker": ((1500.0, 1200.0), (-2.0, -1.5))}
observations, truth = [], {}
for ship, (start, velocity) in tracks.items():
    for time in np.arange(0.0, 600.0, 10.0):
        truth[ship, time] = np.array(start) + time * np.array(velocity)
        if ship == "ferry" and 240 < time < 540:
            continue
        north_east = (truth[ship, time] + 10 * generator.standard_normal(2))[::-1]
        place = np.array([origin.latitude, origin.longitude]) + north_east / metres
        observations.append(Observation(entity=ship, sensor="ais", time=time, value=tuple(place)))

posteriors = fuse(observations, sensor, model)
errors = np.array(
    [
        np.linalg.norm(posterior.mixture.mean()[:2] - truth[posterior.entity, posterior.time])
        for posterior in posteriors
    ]
)
print(f"{len(posteriors)} reports; median error {np.median(errors):.1f} m, after the gap {errors[-1]:.1f} m")

for ship in tracks:
    means = [posterior.mixture.mean()[:2] for posterior in posteriors if posterior.entity == ship]
    plt.plot(*np.transpose([place for (name, _), place in truth.items() if name == ship]), color="0.7")
    plt.plot(*np.transpose(means), ".", label=ship)
plt.xlabel("metres east of the origin")
plt.ylabel("metres north")
plt.axis("equal")
plt.legend()
plt.show()
