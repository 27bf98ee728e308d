"""Bags of ROS 2, written by the library of the format's makers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mcap.writer import CompressionType
from mcap_ros2.writer import Writer

START = 1769860800  # seconds since the epoch

_LINE = "=" * 80
_TIME = "int32 sec\nuint32 nanosec"
_HEADER = "builtin_interfaces/Time stamp\nstring frame_id"
_XYZ = "float64 x\nfloat64 y\nfloat64 z"
_XYZW = f"{_XYZ}\nfloat64 w"
_POSE = "geometry_msgs/Point position\ngeometry_msgs/Quaternion orientation"
_TWIST = "geometry_msgs/Vector3 linear\ngeometry_msgs/Vector3 angular"
_PARTS = {
    "builtin_interfaces/Time": _TIME,
    "std_msgs/Header": _HEADER,
    "geometry_msgs/Point": _XYZ,
    "geometry_msgs/Vector3": _XYZ,
    "geometry_msgs/Quaternion": _XYZW,
    "geometry_msgs/Pose": _POSE,
    "geometry_msgs/Twist": _TWIST,
    "geometry_msgs/PoseWithCovariance": "geometry_msgs/Pose pose\nfloat64[36] covariance",
    "geometry_msgs/TwistWithCovariance": "geometry_msgs/Twist twist\nfloat64[36] covariance",
    "sensor_msgs/NavSatStatus": "int8 status\nuint16 service",
}
# the definitions of common_interfaces (ROS 2 Jazzy), without constants and comments
DEFINITIONS = {
    "sensor_msgs/msg/NavSatFix": "std_msgs/Header header\nsensor_msgs/NavSatStatus status\nfloat64 latitude\n"
    "float64 longitude\nfloat64 altitude\nfloat64[9] position_covariance\nuint8 position_covariance_type",
    "sensor_msgs/msg/Imu": "std_msgs/Header header\ngeometry_msgs/Quaternion orientation\n"
    "float64[9] orientation_covariance\ngeometry_msgs/Vector3 angular_velocity\n"
    "float64[9] angular_velocity_covariance\ngeometry_msgs/Vector3 linear_acceleration\n"
    "float64[9] linear_acceleration_covariance",
    "sensor_msgs/msg/Range": "std_msgs/Header header\nuint8 radiation_type\nfloat32 field_of_view\n"
    "float32 min_range\nfloat32 max_range\nfloat32 range\nfloat32 variance",
    "nav_msgs/msg/Odometry": "std_msgs/Header header\nstring child_frame_id\n"
    "geometry_msgs/PoseWithCovariance pose\ngeometry_msgs/TwistWithCovariance twist",
    "geometry_msgs/msg/PoseWithCovarianceStamped": "std_msgs/Header header\ngeometry_msgs/PoseWithCovariance pose",
    "std_msgs/msg/String": "string data",
}


class Sent(NamedTuple):
    """A message of a topic; `at` is when it was recorded, in seconds after the start."""

    topic: str
    type: str
    content: dict[str, Any]
    at: float = 0.0


def definition(kind: str) -> str:
    """A definition with those of all its parts, as recorders write it."""
    parts = [f"{_LINE}\nMSG: {name}\n{text}" for name, text in _PARTS.items()]
    return "\n".join([DEFINITIONS[kind], *parts])


def write_bag(
    path: Path,
    messages: Iterable[Sent],
    chunk_size: int = 1024,
    compression: CompressionType = CompressionType.ZSTD,
) -> Path:
    with path.open("wb") as file, Writer(file, chunk_size, compression) as writer:
        schemas: dict[str, Any] = {}
        for sent in messages:
            if sent.type not in schemas:
                schemas[sent.type] = writer.register_msgdef(sent.type, definition(sent.type))
            time = int((START + sent.at) * 1e9)
            writer.write_message(sent.topic, schemas[sent.type], sent.content, time)
    return path


def header(after: float = 0.0, **stamp: int) -> dict[str, Any]:
    """The header of a message of that many seconds after the start."""
    whole = math.floor(after)
    at = {"sec": START + whole, "nanosec": round((after - whole) * 1e9)}
    return {"stamp": stamp or at, "frame_id": "base"}


def xyz(x: float, y: float, z: float = 0.0) -> dict[str, float]:
    return {"x": x, "y": y, "z": z}


def facing(yaw: float) -> dict[str, float]:
    return {"x": 0.0, "y": 0.0, "z": math.sin(yaw / 2), "w": math.cos(yaw / 2)}


def covariance(size: int, **entries: float) -> list[float]:
    """A matrix by rows; `v01=2.0` sets entries (0, 1) and (1, 0)."""
    flat = [0.0] * size**2
    for name, value in entries.items():
        row, column = int(name[1]), int(name[2])
        flat[row * size + column] = flat[column * size + row] = value
    return flat


def fix(
    after: float,
    place: Sequence[float],
    covariance: Sequence[float] = (0.0,) * 9,
    kind: int = 0,
    status: int = 0,
) -> dict[str, Any]:
    latitude, longitude, altitude = place
    return {
        "header": header(after),
        "status": {"status": status, "service": 1},
        "latitude": latitude,
        "longitude": longitude,
        "altitude": altitude,
        "position_covariance": list(covariance),
        "position_covariance_type": kind,
    }


def odometry(after: float, x: float, y: float, yaw: float = 0.0, **changes: Any) -> dict[str, Any]:
    spread = covariance(6, v00=0.04, v01=0.01, v11=0.09, v22=1.0, v33=1.0, v44=1.0, v55=0.0025)
    return {
        "header": header(after),
        "child_frame_id": "base",
        "pose": {"pose": {"position": xyz(x, y, 0.5), "orientation": facing(yaw)}, "covariance": spread},
        "twist": {"twist": {"linear": xyz(1.5, 0.1), "angular": xyz(0, 0, 0.2)}, "covariance": spread},
        **changes,
    }


def distance(after: float, value: float, variance: float = 0.0) -> dict[str, Any]:
    return {
        "header": header(after),
        "radiation_type": 0,
        "field_of_view": 0.1,
        "min_range": 0.25,
        "max_range": 10.0,
        "range": value,
        "variance": variance,
    }


def imu(after: float, yaw: float = 0.5, rate: float = 0.125) -> dict[str, Any]:
    return {
        "header": header(after),
        "orientation": facing(yaw),
        "orientation_covariance": covariance(3, v00=1.0, v11=1.0, v22=0.01),
        "angular_velocity": xyz(0, 0, rate),
        "angular_velocity_covariance": covariance(3, v00=0.1, v11=0.1, v22=0.0004),
        "linear_acceleration": xyz(1.0, 2.0, 9.81),
        "linear_acceleration_covariance": covariance(3),
    }
