"""Whether a broker answers a bridge, and the topics that it writes to have leaders."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from beliefstream.streams.kafka.connection import connect
from beliefstream.streams.settings import Settings

log = structlog.get_logger(__name__)

CHECK_SECONDS, ANSWER_SECONDS = 2.0, 4
# A broker that is back is found within a second or two; by default kafka-python comes to wait for half a minute.
RECONNECT: dict[str, Any] = {"reconnect_backoff_max_ms": 1000}
AWAY_SECONDS = 8.0  # longer than a leader election, as for workers (`streams.kafka.reachability`)


class BrokerCheck:
    """Asks for the leaders of some topics every two seconds, in its own thread; a good answer calls `on_answer`."""

    def __init__(
        self, settings: Settings, topics: Sequence[str], on_answer: Callable[[], None] = lambda: None
    ) -> None:
        self._settings, self._topics, self._on_answer = settings, list(topics), on_answer
        self._last = time.monotonic()
        self._fault = "no broker answers"
        self._stopped = threading.Event()
        self._admin: Any = None
        self._thread = threading.Thread(target=self._run, name="beliefstream-broker-check", daemon=True)

    @property
    def fault(self) -> str | None:
        """Why nothing can be written, if that has lasted for some seconds."""
        return self._fault if self.silence > AWAY_SECONDS else None

    @property
    def silence(self) -> float:
        """Seconds since the last good answer."""
        return time.monotonic() - self._last

    def start(self) -> None:
        """Start to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to ask; does not wait for an answer."""
        self._stopped.set()

    def _run(self) -> None:
        was_away = False
        while not self._stopped.wait(CHECK_SECONDS):
            self._ask()
            fault = self.fault
            if (fault is not None) != was_away:
                was_away = fault is not None
                log.warning("the broker is away" if was_away else "the broker is back", fault=fault)
        self._close()

    def _ask(self) -> None:
        try:
            if self._admin is None:
                milliseconds = ANSWER_SECONDS * 1000
                options = {"request_timeout_ms": milliseconds, "bootstrap_timeout_ms": milliseconds}
                options |= RECONNECT | self._settings.client_options
                self._admin = connect(KafkaAdminClient, self._settings.brokers, options)
            lacking = without_leader(self._admin.describe_topics(self._topics))
        except (KafkaError, OSError, ValueError) as error:
            self._fault = f"no broker answers: {error}"
            self._close()
            return
        if lacking:
            self._fault = f"missing, or without a leader: {', '.join(lacking[:3])}"
            return
        self._last = time.monotonic()
        try:
            self._on_answer()
        except (KafkaError, OSError, LookupError) as error:
            log.warning("connections not renewed", error=str(error))

    def _close(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()


def without_leader(described: Sequence[dict[str, Any]]) -> list[str]:
    """The topics that are missing or not to be seen, and partitions without a leader."""
    lacking = [topic["name"] for topic in described if topic["error_code"] != 0]
    return lacking + [
        f"{topic['name']}-{partition['partition_index']}"
        for topic in described
        for partition in topic["partitions"]
        if partition["leader_id"] < 0
    ]
