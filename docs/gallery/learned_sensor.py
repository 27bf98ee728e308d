"""A radiation source found by a counter, whose likelihood was learned from a simulator alone."""

import matplotlib.pyplot as plt
import numpy as np

from beliefstream import Coordinate, LearnedSensor, Mixture, Model, Observation, RandomWalk, fuse

generator = np.random.default_rng(7)
sensor = LearnedSensor(
    sensor="counter",
    problem="beliefstream.inference.likelihood.example_problems:RadiationSource",
    weights="RadiationSource.safetensors",
    parameters={"x": "x", "y": "y", "strength": "log_strength"},
    value=("count", "counter_x", "counter_y"),
    context={"height": 1.0, "background": 5.0, "efficiency": 1.0, "exposure": 10.0},
)
model = Model(
    entity="*",
    name="source",
    motion=RandomWalk(spectral_density=0.0),
    coordinates=[
        Coordinate(name="x", unit="m"),
        Coordinate(name="y", unit="m"),
        Coordinate(name="log_strength", unit="1"),
    ],
    prior=Mixture.gaussian((0, 0, 6), standard_deviations=(6, 6, 0.7)),
)

# the counter is carried around, so each report has its count and its place
truth, strength = np.array([4.0, -3.0]), np.exp(6.2)
counters = [(-8.0, -8.0), (8.0, -8.0), (8.0, 8.0), (-8.0, 8.0), (0.0, 0.0)]
observations = []
for number, counter in enumerate(counters):
    rate = 5 + strength / (np.sum((truth - counter) ** 2) + 1)
    count = float(generator.poisson(10 * rate))
    observations.append(
        Observation(entity="source", sensor="counter", time=float(number), value=(count, *counter))
    )

posteriors = fuse(observations, sensor, model)
last = posteriors[-1]
errors = np.array([np.linalg.norm(last.mixture.mean()[:2] - truth)])
print(
    f"found within {errors[0]:.1f} m after {len(counters)} counts, by a likelihood that is {last.quality.likelihood}"
)

points = np.array(last.mixture.sample(3000, generator))
first = np.array(posteriors[0].mixture.sample(3000, generator))
plt.plot(*first[:, :2].T, ".", color="0.8", markersize=2, label="after one count")
plt.plot(*points[:, :2].T, ".", color="tab:blue", markersize=2, label="after five")
plt.plot(*np.transpose(counters), "k^", label="places of the counter")
plt.plot(*truth, "rx", label="source")
plt.axis("equal")
plt.legend()
plt.show()
