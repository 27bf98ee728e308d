"""Private parts of Faust 0.15.3: its producer and its clients.

**Faust hides its producer and its clients (Faust 0.15.3).** Faust sends every record through a task and a future, and
has no method for other requests to brokers. So a worker uses the aiokafka producer and clients in the app. They have no
public names: `Producer._producer`, `Consumer._thread._consumer`. Fixed upstream when Faust's producer and consumer have
public attributes for them.
"""

from __future__ import annotations

from typing import Any, cast

import faust
from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient

from beliefstream.streams.kafka.aiokafka_clients import client_of


async def started_producer(app: faust.App) -> AIOKafkaProducer:
    """Return the app's producer, and start it if needed."""
    return (await app.maybe_start_producer())._producer


def producer_client(app: faust.App) -> AIOKafkaClient | None:
    """The client of the app's producer; None before its start and after its end."""
    producer = cast(Any, app.producer)._producer
    return producer.client if producer else None


def clients(app: faust.App) -> list[AIOKafkaClient]:
    """The clients of the app's producer and consumer, if these are started."""
    consumer = cast(Any, app.consumer)._thread._consumer
    reading = client_of(consumer) if consumer else None
    return [client for client in (producer_client(app), reading) if client]
