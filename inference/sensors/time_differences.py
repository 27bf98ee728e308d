"""Time differences of arrival at several receivers, whose errors are correlated.

The differences ``z_j = t_j − t_0`` of one signal share the error of the reference's clock: with independent errors of
variances ``s_j²`` their covariance is ``diag(s_1², …, s_n²) + s_0² 1 1ᵀ``.

The update needs scalar reports with independent errors. With ``Σ = L D Lᵀ``, where L is unit lower triangular and D
diagonal, the combinations ``L⁻¹ z`` have the covariance D (G. H. Golub, C. F. Van Loan, "Matrix Computations", 4th
edition, section 4.1.2). As ``det L = 1``, their joint density is that of z.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from beliefstream.inference.likelihood.measurement_functions import Parameters
from beliefstream.inference.likelihood.noise import Array
from beliefstream.inference.sensors.checks import located, positive
from beliefstream.inference.sensors.functions import SPEED_OF_LIGHT, function
from beliefstream.inference.sensors.readings import COMPOSITE, Reading, Sensor


@dataclass(frozen=True, eq=False)
class TimeDifferences(Sensor):
    """A sensor of time differences; its parts report the combinations of them that are independent.

    Attributes:
        combination: the matrix ``L⁻¹``, ``(n, n)``.
    """

    combination: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def split(self, value: Array, covariance: Array | None) -> tuple[Reading, ...]:
        """Return the readings of the parts; a covariance may correlate all differences."""
        parts, combination = self.parts, self.combination
        if covariance is not None:
            parts, combination = _independent(parts[0], covariance)
        combined = combination @ value
        return tuple(Reading(part, combined[[place]]) for place, part in enumerate(parts))


def shared_reference(deviations: ArrayLike) -> Array:
    """Return the covariance of the differences, ``(n, n)``, in s².

    Args:
        deviations: of the time of arrival at the reference and at each other receiver, ``(n + 1,)``, in s.
    """
    variances = np.square(np.asarray(deviations, float))
    covariance: Array = np.diag(variances[1:]) + variances[0]
    return covariance


def time_differences(
    axes: Sequence[int],
    dimension: int,
    receivers: ArrayLike,
    covariance: ArrayLike,
    propagation_speed: float = SPEED_OF_LIGHT,
) -> Sensor:
    """Make a sensor of the delays of a signal at receivers, each relative to the first one, in seconds.

    It has no outliers: one at the reference would be in all differences.

    Args:
        axes: indices of the coordinates of the place.
        dimension: number of coordinates of the state.
        receivers: positions, ``(n + 1, len(axes))``; the first is the reference.
        covariance: of the differences, ``(n, n)``, in s².
        propagation_speed: of the signal, in units of the coordinates per second.

    Raises:
        ValueError: fewer than two receivers, a position that does not fit the axes or comes twice, or a covariance that
            does not fit or is not positive definite.
    """
    places = [located(place, axes, "receivers") for place in np.asarray(receivers, float)]
    spread = np.asarray(covariance, float)
    count = len(places) - 1
    if count < 1:
        raise ValueError(f"receivers: expected two or more, got {len(places)}")
    if len({place.tobytes() for place in places}) < len(places):
        raise ValueError(f"receivers: expected distinct positions, got {[each.tolist() for each in places]}")
    if spread.shape != (count, count):
        raise ValueError(f"covariance: expected {count} rows and columns, got shape {spread.shape}")
    numbers: Parameters = {
        "propagation_speed": positive("propagation_speed", propagation_speed),
        "weights": np.ones(count),
    }
    part = function(
        "time_differences", list(axes) * len(places), dimension, 1.0, numbers, origin=np.concatenate(places)
    )
    try:
        parts, combination = _independent(replace(part, placement=None), spread)
    except np.linalg.LinAlgError:
        raise ValueError(f"covariance: not positive definite: {spread.tolist()}") from None
    return TimeDifferences(
        COMPOSITE,
        np.zeros((0, dimension)),
        np.zeros(0),
        spread,
        parts=parts,
        combination=combination,
    )


def _independent(part: Sensor, covariance: Array) -> tuple[tuple[Sensor, ...], Array]:
    """The sensors of independent combinations, made from any of them, and the combinations."""
    factor = np.linalg.cholesky(covariance)
    deviations = np.diagonal(factor)
    combination = np.asarray(np.linalg.solve(factor / deviations, np.eye(len(factor))), float)
    speed = part.parameters[:1]  # parameters are in the order of their names
    parts = tuple(
        replace(part, covariance=np.array([[deviation**2]]), parameters=np.concatenate([speed, weights]))
        for deviation, weights in zip(deviations, combination, strict=True)
    )
    return parts, combination
