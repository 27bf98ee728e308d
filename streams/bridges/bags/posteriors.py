"""Posteriors as MCAP: drawn by Foxglove, and whole as JSON."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from foxglove.messages import (
    Color,
    Pose,
    Quaternion,
    SceneEntity,
    SceneUpdate,
    SpherePrimitive,
    TextPrimitive,
    Timestamp,
    Vector3,
)
from mcap.well_known import MessageEncoding
from mcap.writer import Writer
from numpy.typing import NDArray

from beliefstream.schemas import Mixture, Posterior, parse
from beliefstream.streams.kafka.connection import Closing

DRAWN, WHOLE = "/beliefs", "/posteriors"
FRAME = "map"
NANOSECONDS = 1_000_000_000
# squared radius that holds 90 % of a Gaussian, by its dimension: the chi-square quantile
_SQUARED_RADIUS = {1: 2.705543, 2: 4.605170, 3: 6.251389}
_FLAT = 0.02  # thickness of an ellipse, as a share of its longest axis
_HEIGHT = 14.0  # of an entity's name, pixels
_COLOR = (0.15, 0.45, 0.9)
_FAINTEST, _STRONGEST = 0.1, 0.7

Array = NDArray[np.float64]


class McapPosteriors(Closing):
    """Writes posteriors to an MCAP file, which can be read once it is closed.

    `/beliefs` has a `foxglove.SceneUpdate` of each posterior: the ellipses, or ellipsoids, that hold 90 % of each
    component of its position, the more solid the greater the weight. `/posteriors` has the message itself, JSON.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._writer = Writer(self._file)
        self._writer.start(profile="", library="beliefstream")
        schema = SceneUpdate.get_schema()
        number = self._writer.register_schema(schema.name, schema.encoding, schema.data)
        self._drawn = self._writer.register_channel(DRAWN, MessageEncoding.Protobuf, number)
        self._whole = self._writer.register_channel(WHOLE, MessageEncoding.JSON, 0)

    def write(self, raw: bytes) -> None:
        """Write one that is JSON; raises ValueError for a time before 1970, which MCAP does not have."""
        posterior = parse(Posterior, raw)
        if posterior.time < 0:
            raise ValueError(f"time: {posterior.time} is before 1970, which MCAP does not have")
        time = nanoseconds(posterior.time)
        self._writer.add_message(self._whole, time, raw, time, posterior.sequence)
        if axes := position_of(posterior):
            update = SceneUpdate(entities=[_drawn(posterior, axes)]).encode()
            self._writer.add_message(self._drawn, time, update, time, posterior.sequence)

    def close(self) -> None:
        """Write the index, and close the file."""
        if not self._file.closed:
            self._writer.finish()
            self._file.close()


def nanoseconds(time: float) -> int:
    """A time in seconds as whole nanoseconds; their product is rounded to 256 ns today."""
    whole, part = divmod(time, 1.0)
    return int(whole) * NANOSECONDS + round(part * NANOSECONDS)


def position_of(posterior: Posterior) -> tuple[int, ...]:
    """The indices of the coordinates that are drawn: x, y and z; without an x, the first three of the first's unit."""
    names = posterior.coordinate_names
    if "x" in names:
        return tuple(names.index(name) for name in ("x", "y", "z") if name in names)
    unit = posterior.coordinates[0].unit
    return tuple(number for number, each in enumerate(posterior.coordinates) if each.unit == unit)[:3]


def _drawn(posterior: Posterior, axes: tuple[int, ...]) -> SceneEntity:
    time = Timestamp(*divmod(nanoseconds(posterior.time), NANOSECONDS))
    mean = _place(posterior.mixture.mean()[list(axes)])
    name = TextPrimitive(
        pose=Pose(position=mean, orientation=Quaternion(w=1.0)),
        billboard=True,
        font_size=_HEIGHT,
        scale_invariant=True,
        color=Color(r=1.0, g=1.0, b=1.0, a=1.0),
        text=posterior.entity,
    )
    spheres = _ellipsoids(posterior.mixture, axes)
    return SceneEntity(timestamp=time, frame_id=FRAME, id=posterior.entity, spheres=spheres, texts=[name])


def _ellipsoids(mixture: Mixture, axes: tuple[int, ...]) -> list[SpherePrimitive]:
    chosen = list(axes)
    found = []
    for weight, mean, covariance in zip(mixture.weights, mixture.means, mixture.covariances, strict=True):
        spread = np.asarray(covariance)[np.ix_(chosen, chosen)]
        size, orientation = ellipsoid(spread)
        pose = Pose(position=_place(np.asarray(mean)[chosen]), orientation=Quaternion(**orientation))
        red, green, blue = _COLOR
        solid = _FAINTEST + (_STRONGEST - _FAINTEST) * weight
        color = Color(r=red, g=green, b=blue, a=solid)
        found.append(SpherePrimitive(pose=pose, size=Vector3(x=size[0], y=size[1], z=size[2]), color=color))
    return found


def _place(numbers: Array) -> Vector3:
    x, y, z = (*map(float, numbers), 0.0, 0.0)[:3]
    return Vector3(x=x, y=y, z=z)


def ellipsoid(covariance: Array) -> tuple[tuple[float, float, float], dict[str, float]]:
    """The diameters of the ellipsoid that holds 90 % of a Gaussian, and the quaternion that turns it.

    Args:
        covariance: of one to three coordinates, ``(d, d)``; axes that it lacks are thin.
    """
    size = len(covariance)
    variances, vectors = np.linalg.eigh(covariance)
    radius = math.sqrt(_SQUARED_RADIUS[size])
    diameters = 2 * radius * np.sqrt(np.maximum(variances, 0.0))
    thin = _FLAT * float(diameters.max())
    full = np.eye(3)
    full[:size, :size] = vectors
    if np.linalg.det(full) < 0:
        full[:, 0] *= -1
    x, y, z = (*map(float, diameters), thin, thin)[:3]
    return (x, y, z), quaternion(full)


def quaternion(rotation: Array) -> dict[str, float]:
    """The unit quaternion of a rotation matrix: the eigenvector of its largest eigenvalue.

    I. Y. Bar-Itzhack, "New Method for Extracting the Quaternion from a Rotation Matrix", Journal of Guidance, Control,
    and Dynamics 23 (2000), equation 3.
    """
    r = rotation
    matrix = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], r[1, 0] + r[0, 1], r[2, 0] + r[0, 2], r[2, 1] - r[1, 2]],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], r[2, 1] + r[1, 2], r[0, 2] - r[2, 0]],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], r[1, 0] - r[0, 1]],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r[0, 0] + r[1, 1] + r[2, 2]],
        ]
    )
    _, vectors = np.linalg.eigh(matrix)
    x, y, z, w = map(float, vectors[:, -1])
    return {"x": x, "y": y, "z": z, "w": w}
