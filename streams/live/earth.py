"""Where the plane of the map lies on the earth: in degrees itself, or in metres from a place that sensors name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from beliefstream.schemas import GeodeticSensor, Sensor
from beliefstream.streams.live.posteriors import PlainPosterior

LATITUDES = ("latitude", "lat")
LONGITUDES = ("longitude", "lon", "lng")
DEGREES = ("deg", "degree", "degrees", "°")
HIGHEST = 85.0  # degrees of latitude: nearer to a pole a map is stretched no further

Plane = tuple[str, str]
"""The names of the two coordinates that the map shows: to the right, and upwards."""


def degree_plane(posterior: PlainPosterior) -> Plane | None:
    """The coordinates of longitude and latitude in degrees, in this order; None unless there are both."""
    names = [each.name for each in posterior.coordinates if each.unit in DEGREES]
    latitude = next((name for name in names if name.lower() in LATITUDES), None)
    longitude = next((name for name in names if name.lower() in LONGITUDES), None)
    return (longitude, latitude) if latitude is not None and longitude is not None else None


def stretch_of(posterior: PlainPosterior, plane: Plane) -> float:
    """How long a degree of longitude is against one of latitude: the cosine of the latitude; 1 in other planes."""
    if degree_plane(posterior) != plane:
        return 1.0
    latitude = posterior.mixture.mean()[posterior.coordinate_names.index(plane[1])]
    return math.cos(math.radians(min(abs(float(latitude)), HIGHEST)))


def earth_note(plane: Plane | None, stretch: float, sensors: Iterable[Sensor]) -> dict[str, Any] | None:
    """What the page draws its grid by; None in a plane that is nowhere.

    Sensors that name different origins for the same plane contradict each other: then it is nowhere too.
    """
    if stretch != 1.0:
        return {"kind": "degrees", "stretch": stretch}
    origins = {
        (sensor.origin.latitude, sensor.origin.longitude, sensor.origin.altitude)
        for sensor in sensors
        if isinstance(sensor, GeodeticSensor) and tuple(sensor.coordinates[:2]) == plane
    }
    if len(origins) != 1:
        return None
    latitude, longitude, altitude = origins.pop()
    return {"kind": "tangent", "latitude": latitude, "longitude": longitude, "altitude": altitude}
