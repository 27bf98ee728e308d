"""Numbers of definitions that a fit changes: what they are, and the definitions that factors on them give."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from beliefstream.schemas import Model, RangeChannel, Sensor, parse_sensor
from beliefstream.schemas.sensors.base import Lasting
from beliefstream.streams.fitting.evidence import Definitions, Recorded

SPREAD, SCALE_SPREAD = 1.5, 0.05  # prior deviation of the log of a factor, and of that of a scale
MOST_OUTLIERS = 0.5
MOTION = "motion"
MODES = (1e-4, 0.01, 1.0, 100.0)  # of the motion noise, that are tried
MODE_TIME = 30.0  # s, from which the fit of its factor starts


class Parameter(NamedTuple):
    """A number that sensors of one group, or the models, have in common: a factor of what each of them states."""

    group: str
    field: str

    @property
    def spread(self) -> float:
        """Prior deviation of its logarithm."""
        return SCALE_SPREAD if self.field == "scale" else SPREAD


Factors = Mapping[Parameter, float]


class Form(NamedTuple):
    """What has a factor: `each` says whether each sensor has its own, instead of one for all of its kind."""

    each: bool = False
    own_noise: frozenset[str] = frozenset()  # sensors whose observations all state their noise
    modes: bool = False  # whether models that state no modes have `MODES`


PLAIN = Form()


def own_noise(first: Recorded) -> frozenset[str]:
    """Sensors whose observations all state their own noise, so that the sensor's is not used."""
    without = (
        each for each in first.observations if each.standard_deviation is None and each.covariance is None
    )
    return frozenset(each.sensor for each in first.observations) - {each.sensor for each in without}


def parameters(stated: Definitions, scale: bool, form: Form, heard: Container[str]) -> list[Parameter]:
    """The numbers to fit: those that are stated, not 0, and used by an observation of the sensors that were heard."""
    found: dict[Parameter, None] = {}
    for sensor in stated.sensors:
        if sensor.sensor not in heard:
            continue
        for group, field, part in _numbers(sensor, _fields(sensor), form):
            noise = np.any(field.get("standard_deviation") or field.get("covariance"))
            used = {
                "standard_deviation": noise and sensor.sensor not in form.own_noise,
                "outlier_probability": np.any(field.get("outlier_probability")),
                "scale": scale and isinstance(part, RangeChannel),
            }
            found |= {Parameter(group, name): None for name, whether in used.items() if whether}
    for model in stated.models:
        named = (*model.motion.noises, *(("mode_time",) if model.modes else ()))
        found |= {Parameter(MOTION, name): None for name in named}
    return list(found)


def _fields(sensor: Sensor) -> dict[str, Any]:
    return sensor.model_dump(mode="json", exclude_none=True)


def _numbers(sensor: Sensor, fields: dict[str, Any], form: Form) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """The group of each number that a sensor reports, its fields, and its definition."""
    own = getattr(sensor, "measurement", None)
    group = sensor.sensor if form.each else f"{sensor.kind} {own}" if own else sensor.kind
    if not sensor.parts:
        yield group, fields, sensor
    for name, part in sensor.parts.items():
        yield f"{group}.{name}", fields[name], part


def scaled(stated: Definitions, factors: Factors, form: Form = PLAIN) -> Definitions:
    """Return the definitions with their numbers multiplied by factors."""
    sensors = []
    for sensor in stated.sensors:
        fields = _fields(sensor)
        for group, field, _ in _numbers(sensor, fields, form):
            if sensor.sensor not in form.own_noise:
                noise = factors.get(Parameter(group, "standard_deviation"), 1.0)
                _multiply(field, "standard_deviation", noise)
                _multiply(field, "covariance", noise**2)
            _multiply(field, "scale", factors.get(Parameter(group, "scale"), 1.0))
            outliers = factors.get(Parameter(group, "outlier_probability"), 1.0)
            _multiply(field, "outlier_probability", outliers, MOST_OUTLIERS)
        sensors.append(parse_sensor(fields))
    models = []
    for model in stated.models:
        motion = {name: factors.get(Parameter(MOTION, name), 1.0) for name in model.motion.noises}
        changed: dict[str, Any] = {"motion": model.motion.with_noise(motion)}
        if model.mode_time is not None:
            changed["mode_time"] = model.mode_time * factors.get(Parameter(MOTION, "mode_time"), 1.0)
        models.append(model.model_copy(update=changed))
    return Definitions(tuple(sensors), tuple(models))


def without_outliers(stated: Definitions) -> Definitions:
    """Return the definitions with no outliers."""
    sensors = []
    for sensor in stated.sensors:
        fields = _fields(sensor)
        for _, field, _ in _numbers(sensor, fields, PLAIN):
            _multiply(field, "outlier_probability", 0.0)
        sensors.append(parse_sensor(fields))
    return Definitions(tuple(sensors), stated.models)


def without_modes(stated: Definitions) -> Definitions:
    """Return the definitions with one mode, of factor 1, that has the components of all."""
    models = (
        model.model_copy(
            update={"modes": (), "mode_time": None, "components": len(model.modes) * model.components}
        )
        if model.modes
        else model
        for model in stated.models
    )
    return Definitions(stated.sensors, tuple(models))


def _multiply(fields: dict[str, Any], name: str, factor: float, most: float = math.inf) -> None:
    if fields.get(name) is not None and factor != 1.0:
        fields[name] = np.minimum(factor * np.array(fields[name]), most).tolist()


def prepared(stated: Definitions, form: Form) -> Definitions:
    """Return the definitions with the errors that last counted as independent ones, and with the modes of a form.

    Constants stay, and so do errors beside a covariance or the noise of observations, of which nothing is made to last.
    """
    sensors = []
    for sensor in stated.sensors:
        fields = _fields(sensor)
        for _, field, _ in _numbers(sensor, fields, form):
            if "standard_deviation" not in field or sensor.sensor in form.own_noise:
                continue
            if lasting := field.pop("persistent_deviation", None):
                del field["correlation_time"]
                field["standard_deviation"] = math.hypot(field["standard_deviation"], lasting)
        sensors.append(parse_sensor(fields))
    return Definitions(
        tuple(sensors), tuple(map(_with_modes, stated.models)) if form.modes else stated.models
    )


def _with_modes(model: Model) -> Model:
    """The model with `MODES`, which share its components, if it states none and has noise that they multiply."""
    if model.modes or not model.motion.noises:
        return model
    components = max(1, model.components // len(MODES))
    return model.model_copy(update={"modes": MODES, "mode_time": MODE_TIME, "components": components})


def proposed(stated: Definitions, factors: Factors, time: float | None, form: Form) -> Definitions:
    """Return the definitions multiplied by factors, whose rest lasts for a correlation time; None: nothing lasts."""
    alone = scaled(stated, factors, form)
    return alone if time is None else lasting(stated, alone, time)


def lasting(stated: Definitions, independent: Definitions, time: float) -> Definitions:
    """Return the definitions whose stated deviation that is not independent lasts for a correlation time, seconds."""
    sensors = []
    for sensor, total in zip(independent.sensors, stated.sensors, strict=True):
        fields = _fields(sensor)
        whole = [field for _, field, _ in _numbers(total, _fields(total), PLAIN)]
        for (_, field, part), of in zip(_numbers(sensor, fields, PLAIN), whole, strict=True):
            deviation = field.get("standard_deviation")
            if not isinstance(part, Lasting) or deviation is None or field.get("noise") is not None:
                continue
            if (rest := of["standard_deviation"] ** 2 - deviation**2) > 0:
                field |= {"persistent_deviation": math.sqrt(rest), "correlation_time": time}
        sensors.append(parse_sensor(fields))
    return Definitions(tuple(sensors), independent.models)
