"""What aiokafka 0.14 does not get over when a connection breaks, put right.

**A write to a transport that has just been closed.** uvloop raises RuntimeError there, where asyncio's own loop says
nothing; aiokafka is ready for OSError. The connections of a broker that is killed are reset, and for a moment aiokafka
takes them for sound. The task that keeps a client's metadata up to date dies of it, nobody is told, and all that waits
for new metadata waits for ever: a worker stood still after one of three brokers had gone. `use_safe_connections` makes
of it the error that aiokafka expects.

**A task that has died.** Whatever it died of: `fault_of` finds a client whose metadata nobody keeps up to date any
more, for the worker to stop and be started again.
"""

from __future__ import annotations

from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

__all__ = ["fault_of", "use_safe_connections"]

_send = AIOKafkaConnection.send


def _send_or_say_why(self: AIOKafkaConnection, *arguments: Any, **options: Any) -> Any:
    try:
        return _send(self, *arguments, **options)
    except RuntimeError as error:
        if type(error) is not RuntimeError:
            raise  # such as NotImplementedError: the broker does not know this version of the request
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error


def use_safe_connections() -> None:
    """For all of aiokafka's connections in this process."""
    AIOKafkaConnection.send = _send_or_say_why


def fault_of(client: AIOKafkaClient | None) -> str | None:
    """What the task has died of that keeps the client's metadata up to date; None while it lives, or was cancelled."""
    task = client._sync_task if client is not None else None
    if task is None or not task.done() or task.cancelled():
        return None
    return repr(task.exception())
