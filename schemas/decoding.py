"""Parses messages from bytes."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from beliefstream.schemas.base import Message, Unusable, check_parts, unusable
from beliefstream.schemas.reasons import Reason

M = TypeVar("M", bound=Message)


def check_size(raw: bytes | None, most: int) -> None:
    """Raise Unusable with reason `too_large` if a message has more than `most` bytes."""
    if raw is not None and len(raw) > most:
        raise Unusable(Reason.too_large, f"message: expected at most {most} bytes, got {len(raw)}")


def parse(message: type[M], raw: bytes | None) -> M:
    """Parse a message from UTF-8 JSON; use `parse_sensor` for sensors.

    Raises:
        Unusable: the detail names the field and the value. The reason is `too_large`, `not_json`, `not_finite`,
            `invalid_time`, `invalid_covariance`, `wrong_length` or `invalid`; for a model `invalid_definition`.
    """
    if raw is None:
        raise Unusable(Reason.not_json, "message: expected JSON, got a record without a value")
    check_parts(raw, message.most_parts)
    try:
        return message.model_validate_json(raw)
    except ValidationError as error:
        raise unusable(error, defines=message.defines) from error
