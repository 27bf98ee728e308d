"""What of a message of ROS 2 is the value of an observation, with its covariance.

Types are those of common_interfaces: sensor_msgs/NavSatFix, Imu and Range, nav_msgs/Odometry and
geometry_msgs/PoseWithCovarianceStamped. Angles are in radians, the axes of REP 103: x forward, y left, z up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from beliefstream.schemas import Reason, Unusable

Covariance = tuple[tuple[float, ...], ...]
_NO_FIX = 0  # sensor_msgs/NavSatStatus: a status below is none
_UNKNOWN = 0  # sensor_msgs/NavSatFix: position_covariance_type
_UNIT = 0.01  # by which the length of a quaternion may differ from 1


class Quantity(NamedTuple):
    """The numbers of an observation, and their covariance if the message states one."""

    value: tuple[float, ...]
    covariance: Covariance | None = None


Read = Callable[[Any, int], Quantity]  # of a message, with the number of dimensions


def type_of(schema: str) -> str:
    """The name of a type without the `msg` in the middle."""
    return schema.replace("/msg/", "/")


def _block(flat: Sequence[float], axes: Sequence[int]) -> Covariance | None:
    """Rows and columns of a square matrix; None if it is unknown: all zeros, or -1 at its beginning."""
    size = math.isqrt(len(flat))
    if not any(flat) or flat[0] == -1:
        return None
    return tuple(tuple(float(flat[row * size + column]) for column in axes) for row in axes)


def _vector(vector: Any, dimensions: int) -> tuple[float, ...]:
    return (vector.x, vector.y, vector.z)[:dimensions]


def _yaw(field: str, q: Any) -> float:
    """The angle of a unit quaternion about the third axis."""
    length = math.sqrt(q.x**2 + q.y**2 + q.z**2 + q.w**2)
    if not abs(length - 1) < _UNIT:
        stated = f"{q.x:g}, {q.y:g}, {q.z:g}, {q.w:g}"
        raise Unusable(Reason.invalid, f"{field}: expected a quaternion of length 1, got ({stated})")
    return math.atan2(2 * (q.w * q.z + q.x * q.y), q.w**2 + q.x**2 - q.y**2 - q.z**2)


def _fix(message: Any, dimensions: int) -> Quantity:
    if message.status.status < _NO_FIX:
        raise Unusable(Reason.invalid, f"status.status: no fix ({message.status.status})")
    known = message.position_covariance_type != _UNKNOWN
    covariance = _block(message.position_covariance, range(dimensions)) if known else None
    return Quantity((message.latitude, message.longitude, message.altitude)[:dimensions], covariance)


def _range(message: Any, _: int) -> Quantity:
    if not message.min_range <= message.range <= message.max_range:
        raise Unusable(
            Reason.invalid,
            f"range: {message.range:g} is not between min_range and max_range, {message.min_range:g} and "
            f"{message.max_range:g}",
        )
    variance = getattr(message, "variance", 0.0)  # newer versions of the type have it
    return Quantity((message.range,), ((variance,),) if variance > 0 else None)


def _check_known(field: str, covariance: Sequence[float]) -> None:
    if covariance[0] == -1:
        raise Unusable(
            Reason.invalid, f"{field}: the message says that it has none ({field}_covariance[0] is -1)"
        )


def _imu_yaw(message: Any, _: int) -> Quantity:
    _check_known("orientation", message.orientation_covariance)
    return Quantity((_yaw("orientation", message.orientation),), _block(message.orientation_covariance, (2,)))


def _yaw_rate(message: Any, _: int) -> Quantity:
    _check_known("angular_velocity", message.angular_velocity_covariance)
    return Quantity((message.angular_velocity.z,), _block(message.angular_velocity_covariance, (2,)))


def _acceleration(message: Any, dimensions: int) -> Quantity:
    _check_known("linear_acceleration", message.linear_acceleration_covariance)
    value = _vector(message.linear_acceleration, dimensions)
    return Quantity(value, _block(message.linear_acceleration_covariance, range(dimensions)))


def _position(message: Any, dimensions: int) -> Quantity:
    value = _vector(message.pose.pose.position, dimensions)
    return Quantity(value, _block(message.pose.covariance, range(dimensions)))


def _pose_yaw(message: Any, _: int) -> Quantity:
    yaw = _yaw("pose.pose.orientation", message.pose.pose.orientation)
    return Quantity((yaw,), _block(message.pose.covariance, (5,)))


def _velocity(message: Any, dimensions: int) -> Quantity:
    value = _vector(message.twist.twist.linear, dimensions)
    return Quantity(value, _block(message.twist.covariance, range(dimensions)))


def _twist(message: Any, _: int) -> Quantity:
    twist = message.twist.twist
    return Quantity((twist.linear.x, twist.angular.z), _block(message.twist.covariance, (0, 5)))


_POSE: dict[str, Read] = {"position": _position, "yaw": _pose_yaw}
TYPES: dict[str, dict[str, Read]] = {
    "sensor_msgs/NavSatFix": {"position": _fix},
    "sensor_msgs/Imu": {"yaw_rate": _yaw_rate, "yaw": _imu_yaw, "acceleration": _acceleration},
    "sensor_msgs/Range": {"range": _range},
    "nav_msgs/Odometry": {**_POSE, "velocity": _velocity, "twist": _twist},
    "geometry_msgs/PoseWithCovarianceStamped": _POSE,
}
"""The quantities of each type of message by name; the first is taken if a mapping names none."""
