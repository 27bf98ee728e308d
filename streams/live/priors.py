"""Priors from the page: checked, published and logged."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

from beliefstream.schemas import Prior
from beliefstream.schemas.base import validated
from beliefstream.streams.client import PriorPublisher
from beliefstream.streams.live.beliefs import Beliefs
from beliefstream.streams.live.overview import Overview

log = structlog.get_logger(__name__)

PUBLISH_SECONDS = 10.0  # until the broker must have acknowledged a prior


class PriorService:
    """Publishes what the page asks for."""

    def __init__(self, publisher: PriorPublisher, beliefs: Beliefs, overview: Overview) -> None:
        self._publisher, self._beliefs, self._overview = publisher, beliefs, overview

    async def publish(self, fields: Any, client: str) -> dict[str, Any]:
        """Publish a prior given as the fields of the message; without a time it is for now.

        Raises:
            beliefstream.schemas.Unusable: a line that names the field and the value.
            BrokerUnavailable, TimeoutError: the broker does not acknowledge it.
        """
        prior = self.checked(fields)
        before = self._beliefs.entities.get(prior.entity)
        sent = await asyncio.to_thread(self._publisher.send_message, prior)
        place = await asyncio.to_thread(sent.result, PUBLISH_SECONDS)
        log.info(
            "prior published",
            entity=prior.entity,
            mode=prior.mode,
            components=prior.mixture.components,
            mean=[round(float(number), 6) for number in prior.mixture.mean()],
            time=prior.time,
            topic=place.topic,
            partition=place.partition,
            offset=place.offset,
            client=client,
        )
        return {
            "entity": prior.entity,
            "mode": prior.mode,
            "time": prior.time,
            "place": str(place),
            "prior_sequence": before.posterior.prior_sequence if before else 0,
        }

    def checked(self, fields: Any) -> Prior:
        """The message; raises Unusable.

        Without a time it is for now, or where time is not that of the wall clock, for that of the newest posterior.
        """
        entity = str(fields.get("entity", "")) if isinstance(fields, dict) else ""
        model, known = self._overview.model_of(entity), self._beliefs.entities.get(entity)
        if isinstance(fields, dict) and fields.get("time") is None:
            is_past = known is not None and model is not None and not model.live_time
            fields = {**fields, "time": known.posterior.time if known and is_past else time.time()}
        prior = validated(Prior, fields)
        names = model.coordinate_names if model else known.posterior.coordinate_names if known else None
        if names is not None:
            prior.check_fits(names)
        return prior
