"""Families of single updates by name; a problem depends only on its family, seed and number."""

from __future__ import annotations

from research.evaluation.adversarial.makers import planar, shapes, space
from research.evaluation.adversarial.problems import Maker, Problem, source

FAMILIES: dict[str, Maker] = {
    "planar": planar.planar,
    "time differences": planar.time_differences,
    "collinear bearings": planar.collinear_bearings,
    "doppler": space.doppler,
    "radar": space.radar(0.05),
    "radar, no outliers": space.radar(0.0),
    **{f"noise 1e-{power}": planar.noise_of(10.0**-power) for power in range(1, 7)},
    "offset 1e6": planar.moved(planar.planar, 1.0, 1e6),
    "prior 1e6 m": planar.moved(planar.noise_of(1e-3), 1e6, 1e6),
    "mixed units": shapes.mixed_units,
    "contradictions, 5 % outliers": planar.contradictions(0.05),
    "contradictions, no outliers": planar.contradictions(0.0),
    "prior 20 deviations off": planar.prior_off,
    "mirror images": planar.mirror_images,
    "four-fold": shapes.four_fold,
    "sines": shapes.sines,
    "double sine": shapes.double_sines,
    "steps": shapes.steps,
    "not a number": shapes.not_a_number,
    "published noise": shapes.published_noise,
    "reflections": shapes.reflections,
    "growing deviation": shapes.growing_deviation,
    "one range in space": space.one_range,
    "two places in space": space.two_places,
    "6 coordinates": space.moving(1),
    "9 coordinates": space.moving(2),
    "2 to 64 components": shapes.many_components,
    "near anchors": planar.near_anchors,
    "linear, 40 components": shapes.linear_components,
}
"""Function that makes a problem, by family."""


def problems(family: str, count: int, seed: int) -> list[Problem]:
    """Return the first `count` problems of a family; raises ValueError for an unknown family."""
    if family not in FAMILIES:
        raise ValueError(f"family: expected one of {sorted(FAMILIES)}, got {family!r}")
    found = []
    for number in range(count):
        prior, readings = FAMILIES[family](source(family, seed, number))
        found.append(Problem(family, prior, tuple(readings)))
    return found
