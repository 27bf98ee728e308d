"""Sets a lease in the batches of a producer, for which aiokafka 0.14 has no public method.

**The identity of a batch.** `AIOKafkaProducer.create_batch` has no argument for the producer identity, the epoch and
the sequence number of the batch. Only the private `_set_producer_state` of the batch sets them. Fixed upstream when
`create_batch`, or a public method of its batch, takes them.

**The largest request.** The producer checks a record against its `max_request_size` in `send`, but not in `send_batch`.
The value has no public name. Fixed upstream when the producer has a public attribute, or `send_batch` checks.
"""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaProducer

__all__ = ["largest_request", "set_producer_state"]


def set_producer_state(batch: Any, producer: int, epoch: int, first: int) -> None:
    """Write producer identity, epoch and first sequence number into a batch that is closed and not sent yet."""
    batch._set_producer_state(producer, epoch, first)


def largest_request(producer: AIOKafkaProducer) -> int:
    """The producer's `max_request_size`, in bytes."""
    size: int = producer._max_request_size
    return size
