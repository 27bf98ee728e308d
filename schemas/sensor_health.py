"""Health of a sensor, as one partition's worker sees it; a reader adds the sums of all partitions."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from beliefstream.schemas.base import (
    MAXIMUM_VALUES,
    Count,
    Matrix,
    Message,
    Name,
    NonNegative,
    Number,
    Positive,
)
from beliefstream.schemas.time import Time

Verdict = Literal[
    "healthy", "biased", "noisier", "quieter", "outliers", "lasting", "silent", "unclear", "unknown"
]
MOST_BLOCKS = 512
_Share = Annotated[Number, Field(ge=0, le=1)]
DIGEST_BYTES = 8


def digest_of(definition: Message) -> str:
    """Return the digest of a sensor's definition, in hexadecimal."""
    return hashlib.blake2b(definition.to_json(), digest_size=DIGEST_BYTES).hexdigest()


class ChannelHealth(Message):
    """Health of one number that a sensor reports, from the partition of the message alone."""

    verdict: Verdict
    """verdict on this number"""
    observations: NonNegative
    """observations judged in the window; not whole after a merge; no unit"""
    bias: Number | None = None
    """mean difference to the prediction, in the reported unit; absent: unknown"""
    bias_deviation: Annotated[Number | None, Field(gt=0)] = None
    """standard deviation of the bias, in the reported unit"""
    noise_scale: NonNegative
    """standard deviation of the noise over the stated one; no unit"""
    outlier_share: _Share
    """mean posterior probability of an outlier; no unit"""
    excess_log_evidence: Number
    """mean of the log evidence minus its expectation, in nats"""


class HealthBlock(Message):
    """Sums over one stretch of event time."""

    start: Annotated[int, Field(strict=True)]
    """start, in shortest blocks since the epoch; no unit"""
    length: Annotated[int, Field(strict=True, ge=1)]
    """length, in shortest blocks; no unit"""
    sums: Annotated[Matrix, Field(max_length=MAXIMUM_VALUES)]
    """sums of each reported number, in the order of `inference.tracking.health.columns.Sum`; units vary"""


class SensorHealth(Message):
    """Health of one sensor in one partition, with the sums that a reader needs to judge it over all partitions."""

    sensor: Name
    """sensor; also the key of the record"""
    partition: Count
    """partition of the observations, and of the record; no unit"""
    time: Time
    """newest observation: seconds since the epoch UTC"""
    first: Time
    """first observation under this definition: seconds since the epoch UTC"""
    definition: Annotated[str, Field(strict=True, pattern="^[0-9a-f]{16}$")]
    """digest of the sensor's definition; no unit"""
    window: Positive
    """length of the window, in seconds of event time"""
    longest_gap: NonNegative
    """longest time between observations, in seconds"""
    entities: Annotated[int, Field(strict=True, ge=0, lt=2**52)]
    """bits of the entities observed, by a hash; no unit"""
    verdict: Verdict
    """verdict from this partition and this sensor alone"""
    channels: Annotated[tuple[ChannelHealth, ...], Field(min_length=1, max_length=MAXIMUM_VALUES)]
    """health of each reported number"""
    blocks: Annotated[tuple[HealthBlock, ...], Field(max_length=MOST_BLOCKS)]
    """sums over the window, in order of time"""
