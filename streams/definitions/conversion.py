"""Converts stated priors for inference, and outcomes of inference to posterior messages.

`streams.definitions.sensors` converts sensors, `streams.definitions.readings` their reports, and
`streams.definitions.motions` models.
"""

from __future__ import annotations

import numpy as np
import orjson

from beliefstream.inference.tracking.events import PriorChange
from beliefstream.inference.tracking.filtering import Outcome
from beliefstream.schemas import Model, Prior
from beliefstream.streams.definitions.motions import belief_from_mixture, motion_over, state_model
from beliefstream.streams.definitions.readings import reading_of
from beliefstream.streams.definitions.sensors import noise_of, sensor_over

__all__ = [
    "PosteriorWriter",
    "belief_from_mixture",
    "motion_over",
    "noise_of",
    "prior_change",
    "reading_of",
    "sensor_over",
    "state_model",
]


def prior_change(prior: Prior, names: tuple[str, ...]) -> PriorChange:
    """Convert a stated prior to the coordinates of a model.

    Raises:
        Unusable: `missing_coordinates` or `wrong_length` if it does not fit the model.
    """
    prior.check_fits(names)
    mixture = belief_from_mixture(prior.mixture, prior.time)
    if prior.coordinates is None:
        return PriorChange(mixture, prior.mode)
    return PriorChange(mixture, prior.mode, tuple(names.index(name) for name in prior.coordinates))


class PosteriorWriter:
    """Writes posterior messages as JSON directly from arrays; `schemas.Posterior` reads them."""

    def __init__(self, model: Model) -> None:
        self._name, self._version = model.name, model.version
        coordinates = [coordinate.model_dump() for coordinate in model.coordinates]
        self._coordinates = orjson.Fragment(orjson.dumps(coordinates))

    def write(
        self,
        entity: str,
        outcome: Outcome,
        sequence: int,
        prior_sequence: int,
        applied: list[str],
        revision: int = 0,
    ) -> bytes:
        """Return one message; `sequence` counts the entity's applied messages, `prior_sequence` only its priors."""
        belief = outcome.belief
        quality: dict[str, float | str | None] = {
            "effective_sample_size": outcome.effective_sample_size,
            "log_evidence": outcome.log_evidence,
            "surprise": outcome.surprise,
            "method": outcome.method,
            "likelihood": "exact",
            "accumulated_error": outcome.accumulated_error,
        }
        if outcome.learned is not None:
            quality["likelihood"] = "learned"
            quality["likelihood_error"] = outcome.learned.error
            quality["outside_training"] = outcome.learned.outside
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
            "quality": quality,
            "applied": applied,
            "prior_sequence": prior_sequence,
            "model": self._name,
            "model_version": self._version,
        }
        return orjson.dumps(message, option=orjson.OPT_SERIALIZE_NUMPY)
