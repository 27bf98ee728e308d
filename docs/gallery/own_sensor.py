"""A magnet found by three magnetometers, whose measurement function is written here."""

import matplotlib.pyplot as plt
import numpy as np

from beliefstream import Coordinate, Mixture, Model, Observation, OwnSensor, RandomWalk, fuse, register

generator = np.random.default_rng(6)
places = {"left": (0.0, 0.0), "right": (4.0, 0.0), "top": (2.0, 3.0)}


@register("gallery_inverse_cube")
def inverse_cube(place, moment):
    """Field in microtesla at `place` (2,), metres from the sensor, of a magnet of `moment` µT m³."""
    return moment * (place.square().sum() + 1e-6) ** -1.5


sensors = [
    OwnSensor(
        sensor=name,
        measurement="gallery_inverse_cube",
        coordinates=("x", "y"),
        position=place,
        parameters={"moment": 20.0},
        standard_deviation=0.3,
    )
    for name, place in places.items()
]
model = Model(
    entity="*",
    name="magnet",
    motion=RandomWalk(spectral_density=0.0),
    coordinates=[Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")],
    prior=Mixture.gaussian((2, 1.5), standard_deviations=2.0),
)

truth = np.array([2.8, 1.4])
observations = [
    Observation(
        entity="magnet",
        sensor=name,
        time=float(number),
        value=20 * np.linalg.norm(truth - place) ** -3 + 0.3 * generator.standard_normal(),
    )
    for number, (name, place) in enumerate(places.items())
]
posteriors = fuse(observations, sensors, model)
errors = np.array([np.linalg.norm(posteriors[-1].mixture.mean() - truth)])
print(f"found within {100 * errors[0]:.0f} cm")

x, y = np.meshgrid(np.linspace(-2, 6, 200), np.linspace(-2, 5, 200))
points = np.column_stack([x.ravel(), y.ravel()])
figure, panels = plt.subplots(1, 3, figsize=(12, 4), sharey=True)
for panel, posterior, name in zip(panels, posteriors, places, strict=True):
    density = np.exp(posterior.mixture.log_density(points)).reshape(x.shape)
    panel.imshow(density**0.5, origin="lower", extent=(-2, 6, -2, 5), cmap="Blues")
    panel.plot(*np.transpose(list(places.values())), "k^")
    panel.plot(*truth, "rx")
    panel.set_title(f"after {name}")
plt.show()
