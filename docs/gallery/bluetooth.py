"""A Bluetooth beacon in a hall: each signal strength says little, many of them say enough."""

import matplotlib.pyplot as plt
import numpy as np

from beliefstream import ConstantVelocity, Coordinate, Mixture, Model, Observation, SignalStrengthSensor, fuse

generator = np.random.default_rng(11)
receivers = {f"receiver-{x}-{y}": (float(x), float(y)) for x in (0, 10, 20) for y in (0, 8, 16)}
sensors = [
    SignalStrengthSensor(
        sensor=name, position=place, reference_power=-50.0, exponent=2.0, standard_deviation=5.0
    )
    for name, place in receivers.items()
]
model = Model(
    entity="*",
    name="beacon",
    motion=ConstantVelocity(positions=("x", "y"), velocities=("vx", "vy"), spectral_density=0.003),
    coordinates=[
        Coordinate(name=name, unit=unit)
        for name, unit in (("x", "m"), ("y", "m"), ("vx", "m/s"), ("vy", "m/s"))
    ],
    prior=Mixture.gaussian((10, 8, 0, 0), standard_deviations=(8, 8, 0.4, 0.4)),
)

# a slow walk; five receivers hear the beacon in each second
path = np.column_stack([np.linspace(3, 17, 60), 8 + 4 * np.sin(np.linspace(0, 3, 60))])
observations = []
for second, place in enumerate(path):
    for name in generator.choice(list(receivers), 5, replace=False):
        distance = np.linalg.norm(place - receivers[name])
        power = -50 - 20 * np.log10(distance) + 5 * generator.standard_normal()
        observations.append(Observation(entity="tag", sensor=str(name), time=float(second), value=power))

posteriors = fuse(observations, sensors, model)
means = np.array([posterior.mixture.mean()[:2] for posterior in posteriors])
errors = np.linalg.norm(means - path, axis=1)
print(f"{len(observations)} signal strengths; median error {np.median(errors):.1f} m")

x, y = np.meshgrid(np.linspace(-2, 22, 150), np.linspace(-2, 18, 150))
points = np.column_stack([x.ravel(), y.ravel()])
for second, colour in ((0, "tab:red"), (10, "tab:orange"), (59, "tab:blue")):
    belief = posteriors[second].mixture
    place = Mixture(
        weights=belief.weights,
        means=np.array(belief.means)[:, :2],
        covariances=np.array(belief.covariances)[:, :2, :2],
    )
    plt.contour(x, y, place.region(0.9).contains(points).reshape(x.shape), levels=[0.5], colors=colour)
    plt.plot(*path[second], "x", color=colour, label=f"after {second + 1} s, and the region of 90 %")
plt.plot(*path.T, color="0.7", linewidth=4, zorder=0)
plt.plot(*means.T, color="tab:blue", linewidth=1)
plt.plot(*np.transpose(list(receivers.values())), "k^")
plt.axis("equal")
plt.legend(loc="upper left")
plt.show()
