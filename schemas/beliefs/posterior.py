"""Posterior: the belief about an entity after an update, with its quality."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from beliefstream.schemas.base import Count, Identifier, Message, Name, Number, Positive, Several
from beliefstream.schemas.model import Coordinate, MixtureOverCoordinates
from beliefstream.schemas.time import Time

Method = Literal["transformer", "refined", "kalman", "linearised", "quadrature", "fallback", "prior"]
Likelihood = Literal["exact", "learned"]
LONGEST_ERROR_NAME = 512  # characters


class Quality(Message):
    """How close the mixture is to the exact posterior, and how well the observations fit the prediction."""

    sample_efficiency: Annotated[Number, Field(ge=0, le=1)]
    """effective share of importance samples drawn from the mixture; 1 is exact; no unit"""
    log_evidence: Number
    """log density of the observations under the prediction, in nats"""
    p_value: Annotated[Number, Field(ge=0, le=1)]
    """p-value of the observations under the prediction; no unit"""
    method: Method
    """method that computed the mixture; prior: no observation, a prior was applied"""
    likelihood: Likelihood = "exact"
    """likelihood that the quality is measured against: exact, or learned from a simulator for at least one of the
    observations"""
    likelihood_error: Annotated[Number | None, Field(ge=0)] = None
    """expected divergence KL(simulator ‖ learned) of the learned likelihoods in this update, summed over its
    observations, and larger where the p-value is below 0.1, in nats; it is part of accumulated_error; absent: none
    is learned, or unknown"""
    outside_training: Annotated[Number | None, Field(ge=0)] = None
    """how far data, context or parameters lie outside what a likelihood was trained on, in widths of that range; 0:
    inside; above 0: do not rely on the mixture; absent: none is learned, or unknown"""
    accumulated_error: Annotated[Number | None, Field(ge=0)] = None
    """estimate of the divergence KL(exact ‖ mixture) over the whole history of the belief, not of the last update
    alone, in nats; absent: unknown, from a worker of an older version"""


class SensorError(Message):
    """What is known of an error that lasts: of one number of a sensor, or of a device, for this entity."""

    name: Annotated[str, Field(strict=True, max_length=LONGEST_ERROR_NAME)]
    """device or sensor, then what is reported, then `bias`, `scale` or `exponent` of a constant one, separated by /; no
    unit"""
    mean: Number
    """expected error, in the reported unit; a scale, which is relative, and an exponent have no unit"""
    standard_deviation: Positive
    """standard deviation of the error, in the unit of the mean"""


class Posterior(Message):
    """The belief about one entity at one time."""

    most_parts: ClassVar[int] = 250_000  # a mixture, and the names of a whole batch

    entity: Name
    """entity of the belief; also the key of the record"""
    time: Time
    """time of the state: seconds since the epoch UTC"""
    sequence: Annotated[int, Field(strict=True, ge=1)]
    """number of messages of this entity applied so far; every posterior raises it by its number of new observations and
    priors; no unit"""
    revision: Count
    """number of times that late messages changed the entity's past, so that its newest posterior was sent again; no
    unit"""
    coordinates: Several[Coordinate]
    """coordinates of the state, with units"""
    mixture: MixtureOverCoordinates
    """belief over all coordinates, in their units"""
    quality: Quality
    """quality of the mixture"""
    applied: Annotated[tuple[Identifier, ...], Field(fail_fast=True)]
    """new observations in this posterior, by id or as partition:offset; no unit"""
    prior_sequence: Count
    """number of priors applied to this entity so far; no unit"""
    model: Name
    """name of the model"""
    model_version: Annotated[int, Field(strict=True, ge=1)]
    """version of the model; no unit"""
    errors: Annotated[tuple[SensorError, ...], Field(fail_fast=True)] = ()
    """errors of sensors that last; empty unless the model has include_errors, and where no sensor has any"""

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """The names of the coordinates, in order."""
        return tuple(coordinate.name for coordinate in self.coordinates)
