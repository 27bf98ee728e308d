"""From what travels on topics to what the mathematics takes, and back."""

from __future__ import annotations

import math

import numpy as np
import orjson

from inference import sensors as measurement
from inference.filtering import Belief, Outcome, PriorChange, StateModel
from inference.motion import ConstantVelocity, Motion, RandomWalk
from inference.sensors import Reading, Sensor
from schemas import ConstantVelocity as ConstantVelocityMessage
from schemas import Mixture, Model, Observation, Prior, Reason, Unusable
from schemas import Sensor as SensorMessage
from schemas.sensor import BearingSensor, LinearSensor, PositionSensor


def belief_of(mixture: Mixture, time: float) -> Belief:
    """A mixture as arrays."""
    return Belief(
        time, np.array(mixture.weights), np.array(mixture.means), np.array(mixture.covariances, dtype=float)
    )


def state_model(model: Model) -> StateModel:
    """What is assumed of the entities of a model."""
    names = model.coordinate_names
    motion: Motion
    if isinstance(model.motion, ConstantVelocityMessage):
        motion = ConstantVelocity(
            tuple(names.index(name) for name in model.motion.positions),
            tuple(names.index(name) for name in model.motion.velocities),
            model.motion.spectral_density,
        )
    else:
        density = model.motion.spectral_density
        motion = RandomWalk(density if isinstance(density, tuple) else (density,) * len(names))
    return StateModel(motion, belief_of(model.prior, 0.0), model.components)


def sensor_over(sensor: SensorMessage, names: tuple[str, ...]) -> Sensor:
    """A sensor's measurement model over a state with these coordinates.

    Raises:
        Unusable: `missing_coordinates`, if the state lacks one that the sensor sees; `invalid_definition`, if its
            noise is no number a computer can square.
    """
    missing = [name for name in sensor.coordinates if name not in names]
    if missing:
        raise Unusable(
            Reason.missing_coordinates,
            f"sensor: {sensor.sensor} sees {', '.join(missing)}, which the model's state {list(names)} lacks",
        )
    try:
        return _sensor_over(sensor, names)
    except (ArithmeticError, ValueError) as error:
        raise Unusable(
            Reason.invalid_definition, f"sensor: {sensor.sensor} cannot be used: {error}"
        ) from error


def _sensor_over(sensor: SensorMessage, names: tuple[str, ...]) -> Sensor:
    axes, size = [names.index(name) for name in sensor.coordinates], len(names)
    probability, scale, bias = sensor.outlier_probability, sensor.scale, sensor.bias
    if isinstance(sensor, PositionSensor):
        return measurement.position(axes, size, _noise(sensor), probability, scale, bias)
    if isinstance(sensor, LinearSensor):
        matrix = np.zeros((len(sensor.rows), size))
        for row, coefficients in enumerate(sensor.rows):
            for name, coefficient in coefficients.items():
                matrix[row, names.index(name)] = coefficient
        return measurement.linear(matrix, _noise(sensor), probability, scale, bias)
    deviation = sensor.standard_deviation
    if isinstance(sensor, BearingSensor):
        return measurement.bearing(axes, size, sensor.position, deviation, probability, scale, bias)
    return measurement.range_to(
        axes, size, sensor.position, deviation, probability, sensor.maximum_range, scale, bias
    )


def _noise(sensor: PositionSensor | LinearSensor) -> measurement.Array:
    if sensor.covariance is not None:
        return np.array(sensor.covariance)
    assert sensor.standard_deviation is not None
    return np.eye(sensor.value_length) * sensor.standard_deviation**2


def reading_of(observation: Observation, sensor: Sensor) -> Reading:
    """One report of that sensor.

    Raises:
        Unusable: `wrong_length`, if the value or its covariance has another length than the sensor's values;
            `invalid_covariance`, if the square of its standard deviation is 0 or infinite.
    """
    value = np.atleast_1d(np.array(observation.value, dtype=float))
    if len(value) != sensor.value_length:
        raise Unusable(
            Reason.wrong_length,
            f"value: {observation.sensor} reports {sensor.value_length} numbers, got {len(value)}",
        )
    covariance = None
    if observation.standard_deviation is not None:
        variance = observation.standard_deviation * observation.standard_deviation
        if not 0 < variance < math.inf:
            raise Unusable(
                Reason.invalid_covariance,
                f"standard_deviation: {observation.standard_deviation} has no square that is a positive number",
            )
        covariance = np.eye(len(value)) * variance
    elif observation.covariance is not None:
        covariance = np.array(observation.covariance)
        if len(covariance) != len(value):
            raise Unusable(
                Reason.wrong_length,
                f"covariance: {observation.sensor} reports {len(value)} numbers, got {len(covariance)} rows",
            )
    return Reading(sensor, value, covariance)


def prior_change(prior: Prior, names: tuple[str, ...]) -> PriorChange:
    """A stated prior, over the coordinates of a model.

    Raises:
        Unusable: `missing_coordinates` or `wrong_length`, if it does not fit the model.
    """
    mixture = belief_of(prior.mixture, prior.time)
    if prior.coordinates is None:
        if prior.mixture.dimension != len(names):
            raise Unusable(
                Reason.wrong_length,
                f"mixture: the model has {len(names)} coordinates, got {prior.mixture.dimension}",
            )
        return PriorChange(mixture, prior.mode)
    missing = [name for name in prior.coordinates if name not in names]
    if missing:
        raise Unusable(
            Reason.missing_coordinates,
            f"coordinates: the model's state {list(names)} lacks {', '.join(missing)}",
        )
    return PriorChange(mixture, prior.mode, tuple(names.index(name) for name in prior.coordinates))


class PosteriorWriter:
    """Posterior messages as JSON, written straight from arrays: `schemas.Posterior` reads them."""

    def __init__(self, model: Model) -> None:
        self._name, self._version = model.name, model.version
        self._coordinates = [coordinate.model_dump() for coordinate in model.coordinates]

    def write(
        self,
        entity: str,
        outcome: Outcome,
        sequence: int,
        prior_sequence: int,
        applied: list[str],
        revision: int = 0,
    ) -> bytes:
        """One message; `sequence` counts the entity's applied messages, `prior_sequence` the priors among them."""
        belief = outcome.belief
        message = {
            "entity": entity,
            "time": belief.time,
            "sequence": sequence,
            "revision": revision,
            "coordinates": self._coordinates,
            "mixture": {
                "weights": belief.weights,
                "means": np.ascontiguousarray(belief.means),
                "covariances": np.ascontiguousarray(belief.covariances),
            },
            "quality": {
                "effective_sample_size": outcome.effective_sample_size,
                "log_evidence": outcome.log_evidence,
                "surprise": outcome.surprise,
                "method": outcome.method,
            },
            "applied": applied,
            "prior_sequence": prior_sequence,
            "model": self._name,
            "model_version": self._version,
        }
        return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
