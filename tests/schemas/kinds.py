"""One definition of every kind, as JSON would have it, and the model that it says."""

from __future__ import annotations

from typing import Any

import numpy as np

from beliefstream.inference import motion as moving, sensors as measurement
from beliefstream.inference.likelihood.noise import Exponential, Noise, Uniform
from beliefstream.inference.motion import Motion
from beliefstream.inference.sensors import Sensor

PLACE: dict[str, Any] = {"position": [1.0, 2.0]}
NOISE: dict[str, Any] = {"standard_deviation": 0.3}
PUBLISHED: dict[str, Any] = {  # Whittle et al., arXiv 2502.02463, section 4.3.1
    "standard_deviation": 0.1,
    "noise": {
        "slope": 0.1,
        "clutter": [
            {"kind": "exponential", "probability": 0.2, "mean": 1.0},
            {"kind": "uniform", "probability": 0.1, "low": 0.0, "high": 20.0},
        ],
    },
}
REFLECTED: dict[str, Any] = {
    "standard_deviation": 0.2,
    "noise": {"components": [{"weight": 0.8}, {"weight": 0.2, "bias": 1.5, "ratio": 3.0}]},
}
ORIGIN: dict[str, Any] = {"latitude": 50.75, "longitude": -1.25, "altitude": 80.0}

SENSORS: dict[str, dict[str, Any]] = {
    "position": {"standard_deviation": 2.0, "outlier_probability": 0.1},
    "linear": {"rows": [{"x": 2.0, "vx": -1.0}], **REFLECTED, "bias": 0.5},
    "geodetic": {
        "origin": {"latitude": 50.75, "longitude": -1.25},
        "covariance": [[4.0, 1.0], [1.0, 9.0]],
        "outlier_probability": 0.05,
    },
    "range": {**PLACE, **PUBLISHED},
    "speed": {**REFLECTED, "maximum_speed": 30.0, "outlier_probability": 0.1},
    "range_rate": {**PLACE, **NOISE, "maximum_speed": 50.0, "outlier_probability": 0.2, "scale": -2.0},
    "signal_strength": {
        **PLACE,
        **REFLECTED,
        "reference_power": -40.0,
        "exponent": 2.4,
        "outlier_span": 60.0,
    },
    "time_difference": {"first": [9.0, 0.0], "second": [-9.0, 1.0], **NOISE, "propagation_speed": 343.0},
    "time_differences": {
        "receivers": [[9.0, 0.0], [-9.0, 1.0], [0.0, 8.0]],
        "standard_deviation": [0.1, 0.3, 0.2],
        "propagation_speed": 343.0,
    },
    "pseudorange": {"origin": ORIGIN, **REFLECTED, "clock": "vx", "elevation_deviation": 0.4},
    "pseudorange_rate": {"origin": ORIGIN, **NOISE, "outlier_probability": 0.1, "signal_deviation": 20.0},
    "bearing": {**PLACE, **NOISE, "outlier_probability": 0.2, "scale": -57.3, "bias": 90.0},
    "relative_bearing": {**PLACE, **NOISE, "noise": {"slope": 0.05}, "outlier_probability": 0.1},
    "heading": {**NOISE, "outlier_probability": 0.1},
    "course": {**NOISE, "bias": 0.2},
    "azimuth_elevation": {
        "position": [1.0, 2.0, 0.5],
        "azimuth": NOISE,
        "elevation": {"standard_deviation": 0.05, "outlier_probability": 0.1},
    },
    "range_bearing": {**PLACE, "range": {**PUBLISHED, "maximum_range": 50.0}, "bearing": NOISE},
    "range_relative_bearing": {**PLACE, "range": REFLECTED, "bearing": {**NOISE, "outlier_probability": 0.1}},
    "range_azimuth_elevation": {
        "position": [1.0, 2.0, 0.5],
        "range": {**NOISE, "scale": 0.1},
        "azimuth": NOISE,
        "elevation": NOISE,
    },
    "own": {
        "measurement": "signal_strength",
        "coordinates": ["x", "y", "z"],
        "position": [1.0, 2.0, 0.5],
        "parameters": {"reference_power": -40.0, "exponent": 2.0, "reference_distance": 1.0},
        "outlier_span": 80.0,
        "outlier_probability": 0.1,
        **NOISE,
    },
    "learned": {
        "problem": "beliefstream.inference.likelihood.example_problems:RadiationSource",
        "parameters": {"x": "x", "y": "y", "strength": "z"},
        "value": ["count"],
        "context": {
            "counter_x": 1.0,
            "counter_y": 2.0,
            "height": 1.0,
            "background": 0.5,
            "efficiency": 2.0,
            "exposure": 4.0,
        },
    },
    "control": {"inputs": ["speed", "turn_rate"], "standard_deviation": [0.1, 0.02]},
}
for kind, definition in SENSORS.items():
    definition.update(kind=kind, sensor=f"{kind}-1")

NAMES = ("vy", "z", "x", "heading", "vx", "y")
VY, Z, X, HEADING, VX, Y = range(6)
AT, ABOVE = [1.0, 2.0], [1.0, 2.0, 0.5]
PUBLISHED_NOISE = Noise(slope=0.1, clutter=((0.2, Exponential(1.0)), (0.1, Uniform(0.0, 20.0))))
REFLECTED_NOISE = Noise((0.8, 0.2), (0.0, 1.5), (1.0, 3.0))

_RANGE = measurement.range_to([X, Y], 6, AT, 0.1, maximum_range=50.0, noise=PUBLISHED_NOISE)
# by kind, the measurement model that the definition above says, over the coordinates `NAMES`
MEASUREMENTS: dict[str, Sensor] = {
    "position": measurement.position([X, Y], 6, 4 * np.eye(2), 0.1),
    "linear": measurement.linear([[0, 0, 2, 0, -1, 0]], [[0.04]], bias=0.5, noise=REFLECTED_NOISE),
    "range": measurement.range_to([X, Y], 6, AT, 0.1, noise=PUBLISHED_NOISE),
    "speed": measurement.speed([VX, VY], 6, 0.2, 0.1, 30.0, noise=REFLECTED_NOISE),
    "range_rate": measurement.range_rate([X, Y], [VX, VY], 6, AT, 0.3, 0.2, 50.0, scale=-2.0),
    "signal_strength": measurement.signal_strength(
        [X, Y], 6, AT, 0.2, -40.0, 2.4, outlier_span=60.0, noise=REFLECTED_NOISE
    ),
    "time_difference": measurement.time_difference([X, Y], 6, [9, 0], [-9, 1], 0.3, 343.0),
    "time_differences": measurement.time_differences(
        [X, Y], 6, [[9, 0], [-9, 1], [0, 8]], [[0.1, 0.01], [0.01, 0.05]], 343.0
    ),
    "bearing": measurement.bearing([X, Y], 6, AT, 0.3, 0.2, scale=-57.3, bias=90.0),
    "relative_bearing": measurement.relative_bearing(
        [X, Y], HEADING, 6, AT, 0.3, 0.1, noise=Noise(slope=0.05)
    ),
    "heading": measurement.heading(HEADING, 6, 0.3, 0.1),
    "course": measurement.course([VX, VY], 6, 0.3, bias=0.2),
    "azimuth_elevation": measurement.composite(
        [
            measurement.azimuth([X, Y, Z], 6, ABOVE, 0.3),
            measurement.elevation([X, Y, Z], 6, ABOVE, 0.05, 0.1),
        ]
    ),
    "range_bearing": measurement.composite([_RANGE, measurement.bearing([X, Y], 6, AT, 0.3)]),
    "range_relative_bearing": measurement.composite(
        [
            measurement.range_to([X, Y], 6, AT, 0.2, noise=REFLECTED_NOISE),
            measurement.relative_bearing([X, Y], HEADING, 6, AT, 0.3, 0.1),
        ]
    ),
    "range_azimuth_elevation": measurement.composite(
        [
            measurement.range_to([X, Y, Z], 6, ABOVE, 0.3, scale=0.1),
            measurement.azimuth([X, Y, Z], 6, ABOVE, 0.3),
            measurement.elevation([X, Y, Z], 6, ABOVE, 0.3),
        ]
    ),
    "own": measurement.signal_strength([X, Y, Z], 6, ABOVE, 0.3, -40.0, 2.0, 1.0, 0.1, 80.0),
}

# the name of a motion with its coordinates
MOTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "walk": ("x y", {"kind": "random_walk", "spectral_density": [0.5, 2.0]}),
    "velocity": (
        "y vy vx x",
        {
            "kind": "constant_velocity",
            "positions": ["x", "y"],
            "velocities": ["vx", "vy"],
            "spectral_density": 0.3,
            "position_density": 0.2,
            "inputs": ["ax", "ay"],
        },
    ),
    "decaying": (
        "x vx vy y",
        {
            "kind": "decaying_velocity",
            "positions": ["x", "y"],
            "velocities": ["vx", "vy"],
            "time_constant": 4.0,
            "spectral_density": 0.3,
            "position_density": 0.1,
        },
    ),
    "acceleration": (
        "x vx ax y vy ay z vz az",
        {
            "kind": "constant_acceleration",
            "positions": ["x", "y", "z"],
            "velocities": ["vx", "vy", "vz"],
            "accelerations": ["ax", "ay", "az"],
            "spectral_density": 0.3,
            "position_density": 0.4,
        },
    ),
    "reverting": (
        "x y",
        {"kind": "mean_reverting", "rate": 0.5, "mean": [1.0, -1.0], "spectral_density": 2.0},
    ),
    "linear": (
        "x v",
        {
            "kind": "linear",
            "drift": [[0.0, 1.0], [-2.0, -0.3]],
            "diffusion": [[0.0, 0.0], [0.0, 0.4]],
            "inputs": ["force"],
            "input_matrix": [[0.0], [1.0]],
        },
    ),
    "steps": (
        "x v",
        {
            "kind": "linear",
            "transition": [[1.0, 0.5], [0.0, 0.9]],
            "noise": [[0.1, 0.0], [0.0, 0.2]],
            "step": 0.5,
        },
    ),
    "unicycle": ("x y heading", {"kind": "unicycle", "heading_density": 0.01, "position_density": 0.02}),
    "unicycle with its own speed": (
        "heading v y x",
        {"kind": "unicycle", "speed": "v", "speed_density": 0.3},
    ),
    "turn": (
        "x y vx vy w",
        {"kind": "coordinated_turn", "turn_rate": "w", "turn_rate_density": 0.1, "acceleration_density": 0.2},
    ),
    "turn under a gyroscope": (
        "x vx y vy",
        {"kind": "coordinated_turn", "acceleration_density": 0.2, "position_density": 0.3},
    ),
}
# by name, the motion that the definition above says
MOVED: dict[str, Motion] = {
    "walk": moving.RandomWalk((0.5, 2.0)),
    "velocity": moving.ConstantVelocity((3, 0), (2, 1), 0.3, controlled=True, position_density=0.2),
    "decaying": moving.DecayingVelocity((0, 3), (1, 2), 4.0, 0.3, position_density=0.1),
    "acceleration": moving.ConstantAcceleration((0, 3, 6), (1, 4, 7), (2, 5, 8), 0.3, position_density=0.4),
    "reverting": moving.MeanReverting((0.5, 0.5), (1.0, -1.0), (2.0, 2.0)),
    "linear": moving.Linear(((0.0, 1.0), (-2.0, -0.3)), ((0.0, 0.0), (0.0, 0.4)), ((0.0,), (1.0,))),
    "steps": moving.FixedStep(((1.0, 0.5), (0.0, 0.9)), ((0.1, 0.0), (0.0, 0.2)), 0.5),
    "unicycle": moving.Unicycle(heading_density=0.01, position_density=0.02),
    "unicycle with its own speed": moving.Unicycle((3, 2), 0, speed=1, speed_density=0.3),
    "turn": moving.CoordinatedTurn(turn_rate_density=0.1, acceleration_density=0.2),
    "turn under a gyroscope": moving.CoordinatedTurn(
        (0, 2), (1, 3), None, acceleration_density=0.2, position_density=0.3
    ),
}


def model(name: str) -> dict[str, Any]:
    """A model with that motion."""
    coordinates, motion = MOTIONS[name]
    names = coordinates.split()
    identity = [[float(i == j) for j in range(len(names))] for i in range(len(names))]
    return {
        "entity": "*",
        "name": "moving",
        "coordinates": [{"name": each, "unit": "m"} for each in names],
        "motion": motion,
        "prior": {"weights": [1.0], "means": [[0.0] * len(names)], "covariances": [identity]},
    }
