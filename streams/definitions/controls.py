"""Converts reports of control sensors to inputs of a model's motion."""

from __future__ import annotations

import numpy as np

from beliefstream.inference.sensors.readings import ControlReading
from beliefstream.schemas import ControlSensor, Model, Reason, Unusable
from beliefstream.streams.definitions.plain_observations import AnyObservation
from beliefstream.streams.definitions.readings import stated_covariance, value_of


def control_of(observation: AnyObservation, sensor: ControlSensor, model: Model) -> ControlReading:
    """Convert one report to inputs of the model's motion, without the sensor's calibration.

    Noise stated in the observation replaces the sensor's.

    Raises:
        Unusable: `missing_coordinates` if the motion lacks one of the inputs; `wrong_length` if the value or its
            covariance has another length; `invalid_covariance` if its standard deviation has no positive finite square.
    """
    known = model.motion.input_names
    missing = [name for name in sensor.inputs if name not in known]
    if missing:
        raise Unusable(
            Reason.missing_coordinates,
            f"sensor: {sensor.sensor} reports the inputs {', '.join(missing)}; the motion {model.motion.kind} of "
            f"{model.name} takes {', '.join(known) or 'none'}",
        )
    value = value_of(observation, sensor.value_length)
    covariance = stated_covariance(observation, len(value))
    if covariance is None:
        covariance = np.array(sensor.noise_covariance, dtype=float)
    scale = np.broadcast_to(np.array(sensor.scale, dtype=float), value.shape)
    value, covariance = (value - np.array(sensor.bias)) / scale, covariance / np.outer(scale, scale)
    return ControlReading(value, covariance, tuple(known.index(name) for name in sensor.inputs))
