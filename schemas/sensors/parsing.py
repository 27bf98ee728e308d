"""Any kind of sensor, and how it is parsed."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, get_args

from pydantic import Field, TypeAdapter, ValidationError

from beliefstream.schemas.base import check_parts, unusable
from beliefstream.schemas.kinds import AnySensor
from beliefstream.schemas.sensors.base import SensorBase

Sensor: TypeAlias = Annotated[AnySensor, Field(discriminator="kind")]
"""Any kind of sensor."""
KINDS: tuple[type[SensorBase], ...] = get_args(AnySensor)
sensor_adapter: TypeAdapter[AnySensor] = TypeAdapter(Sensor)


def parse_sensor(definition: bytes | dict[str, Any] | None) -> Sensor:
    """Parse a sensor from JSON, or from the parsed JSON object.

    Raises:
        Unusable: with reason `invalid_definition`, `not_json`, `not_finite` or `too_large`.
    """
    try:
        if isinstance(definition, dict):
            return sensor_adapter.validate_python(definition)
        check_parts(definition or b"", SensorBase.most_parts)
        return sensor_adapter.validate_json(definition or b"")
    except ValidationError as error:
        raise unusable(error, defines=True) from error
