"""Takes messages from an MQTT broker to Kafka; each is acknowledged only once Kafka has it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import structlog
from kafka.errors import KafkaError
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from beliefstream.schemas import DeadLetter, Observation, Unusable
from beliefstream.streams.bridges.broker_check import RECONNECT, BrokerCheck
from beliefstream.streams.bridges.mqtt import web
from beliefstream.streams.bridges.mqtt.mapping import Mapping
from beliefstream.streams.client import BrokerUnavailable, ObservationProducer, Place
from beliefstream.streams.client.producers import Publisher
from beliefstream.streams.settings import Settings

log = structlog.get_logger(__name__)

SOURCE = "/beliefstream/mqtt"
# While Kafka is away, messages wait this long in the producer, then at the MQTT broker.
DELIVERY_MILLISECONDS = 300_000
CHECK_SECONDS, RETRY_SECONDS, CLOSE_SECONDS = 0.2, 2.0, 10.0
KEEP_ALIVE = 30  # seconds
NEVER_RETAINED = 2  # MQTT 5: a retained message is an old one, told again with every subscription


class MqttRefused(ConnectionError):
    """The MQTT broker does not accept the connection."""


class MqttBridge:
    """A bridge from one MQTT broker (MQTT 5) to the topic of observations.

    Its session outlives it: the MQTT broker keeps messages of QoS 1 for it while it is away.
    """

    def __init__(self, settings: Settings, mapping: Mapping) -> None:
        self._settings, self._mapping = settings, mapping
        self._lock = threading.Lock()
        self._connected = threading.Event()
        self._was_connected = False
        self._check = BrokerCheck(settings, (settings.observations, settings.dead_letters))
        self.forwarded = self.refused = 0  # observations, and dead letters, that Kafka has acknowledged

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """What keeps messages from being forwarded; empty while both brokers answer."""
        place = f"{self._settings.mqtt_host}:{self._settings.mqtt_port}"
        mqtt = None if self._connected.is_set() else f"the MQTT broker at {place} is not connected"
        return tuple(fault for fault in (mqtt, self._check.fault) if fault is not None)

    def run(self, stopped: threading.Event) -> None:
        """Forward messages until `stopped`; after a fault, connect again.

        Raises (at the start only):
            BrokerUnavailable, TopicMissing: of Kafka.
            MqttRefused, OSError: of the MQTT broker.
        """
        self._check.start()
        while not stopped.is_set():
            try:
                with ExitStack() as stack:
                    session = _Session(self._settings, self._mapping, self._count, stack, self._set_connected)
                    session.run(stopped)
            except (KafkaError, OSError, LookupError) as error:
                if not self._was_connected:
                    raise
                log.warning("the bridge connects again", error=str(error))
                stopped.wait(RETRY_SECONDS)
        self._check.stop()

    def _count(self, good: bool) -> None:
        (web.PUBLISHED if good else web.DEAD_LETTERS).inc()
        with self._lock:
            self.forwarded += good
            self.refused += not good

    def _set_connected(self, connected: bool) -> None:
        web.CONNECTED.set(connected)
        if not connected:
            self._connected.clear()
            return
        if self._was_connected:
            web.RECONNECTS.inc()
        self._was_connected = True
        self._connected.set()


class _Packet(NamedTuple):
    """A message of an MQTT connection that waits for Kafka, received at a monotonic time in seconds."""

    connection: int
    identifier: int
    quality: int
    received: float


class _Session:
    """Connections to both brokers; after a message that Kafka has not taken, it ends.

    `count` is called with each outcome, `connected` with whether the MQTT broker is connected when that changes.
    """

    def __init__(
        self,
        settings: Settings,
        mapping: Mapping,
        count: Callable[[bool], None],
        stack: ExitStack,
        connected: Callable[[bool], None],
    ) -> None:
        self._settings, self._mapping, self._count = settings, mapping, count
        options: dict[str, Any] = {
            "delivery_timeout_ms": DELIVERY_MILLISECONDS,
            "linger_ms": 5,
            **RECONNECT,
            **settings.client_options,
        }
        self._observations = ObservationProducer(
            settings.brokers, settings.observations, source=SOURCE, **options
        )
        stack.callback(self._observations.close, CLOSE_SECONDS)
        self._letters = Publisher(settings.brokers, settings.dead_letters, SOURCE, options)
        stack.callback(self._letters.close, CLOSE_SECONDS)
        self._connection = 0  # packet identifiers count within a connection only
        self._session_kept = False  # whether the broker has kept what came while the bridge was away
        self._fault: Exception | None = None
        self._connected = connected
        self._client = self._make_client()

    def run(self, stopped: threading.Event) -> None:
        """Forward until `stopped`. Raises the fault that ended it."""
        settings, properties = self._settings, Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = int(settings.mqtt_session_seconds)
        # the back-pressure: the broker sends no more unasked
        properties.ReceiveMaximum = settings.mqtt_in_flight
        self._client.connect(
            settings.mqtt_host, settings.mqtt_port, KEEP_ALIVE, clean_start=False, properties=properties
        )
        self._client.loop_start()
        try:
            while self._fault is None and not stopped.wait(CHECK_SECONDS):
                pass
            if self._fault is None:
                self._flush()
        finally:
            self._client.disconnect()
            self._client.loop_stop()
            self._connected(False)
        if self._fault is not None:
            raise self._fault

    def _flush(self) -> None:
        try:
            self._observations.flush(CLOSE_SECONDS)
            self._letters.flush(CLOSE_SECONDS)
        except (KafkaError, OSError) as error:
            log.warning("messages remain with the MQTT broker", error=str(error))

    def _make_client(self) -> paho.Client:
        settings = self._settings
        client = paho.Client(
            CallbackAPIVersion.VERSION2, settings.mqtt_client, protocol=paho.MQTTv5, manual_ack=True
        )
        client.reconnect_delay_set(1, 10)
        if settings.mqtt_username:
            password = settings.password_of_mqtt
            client.username_pw_set(settings.mqtt_username, password.get_secret_value() if password else None)
        if settings.mqtt_tls:
            authority, own, key = (
                str(file) if file else None
                for file in (settings.mqtt_ca_file, settings.mqtt_certificate_file, settings.mqtt_key_file)
            )
            client.tls_set(authority, own, key)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe, client.on_message = self._on_subscribe, self._on_message
        return client

    def _on_connect(
        self, client: paho.Client, _: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        if reason.is_failure:
            self._fault = MqttRefused(f"the MQTT broker at {self._place} refuses the connection: {reason}")
            return
        self._connection += 1
        self._session_kept = flags.session_present
        options = SubscribeOptions(qos=1, retainHandling=NEVER_RETAINED)
        client.subscribe([(each.subscription, options) for each in self._mapping.topics])

    def _on_subscribe(
        self, client: paho.Client, _: Any, packet: int, reasons: Sequence[ReasonCode], properties: Any
    ) -> None:
        """Say that the bridge is connected: what is published before the subscription does not come."""
        refused = [
            each.subscription
            for each, reason in zip(self._mapping.topics, reasons, strict=False)
            if reason.is_failure
        ]
        if refused:
            self._fault = MqttRefused(
                f"the MQTT broker at {self._place} refuses to send {', '.join(refused)}"
            )
            return
        self._connected(True)
        log.info("connected to the MQTT broker", session_kept=self._session_kept)

    @property
    def _place(self) -> str:
        return f"{self._settings.mqtt_host}:{self._settings.mqtt_port}"

    def _on_disconnect(self, client: Any, _: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        self._connected(False)
        if reason.is_failure and self._fault is None:
            log.warning("the connection to the MQTT broker is lost, trying again", reason=str(reason))

    def _on_message(self, client: paho.Client, _: Any, message: paho.MQTTMessage) -> None:
        web.RECEIVED.inc()
        if self._fault is not None:
            return  # not acknowledged: it comes again with the next connection
        received = time.perf_counter()
        try:
            future, good = self._send(message)
        except Exception as error:  # paho's thread would end, and the bridge run on without it
            self._fault = error
            return
        packet = _Packet(self._connection, message.mid, message.qos, received)
        future.add_done_callback(partial(self._done, packet, good))

    def _send(self, message: paho.MQTTMessage) -> tuple[Future[Place], bool]:
        payload = bytes(message.payload)
        try:
            observation = self._mapping.observation(
                message.topic, payload, time.time(), self._settings.maximum_message_bytes
            )
        except Unusable as error:
            log.warning("a message does not map", topic=message.topic, detail=error.detail)
            return self._letters.publish(None, payload, letter_headers(message, error)), False
        return self._observations.send_message(identified(observation, message)), True

    def _done(self, packet: _Packet, good: bool, future: Future[Place]) -> None:
        if (error := future.exception()) is not None:
            web.FAILED.inc()
            self._fault = error if isinstance(error, (KafkaError, OSError)) else BrokerUnavailable("", error)
            return
        self._count(good)
        web.ACKNOWLEDGE_SECONDS.observe(time.perf_counter() - packet.received)
        if packet.connection == self._connection and packet.quality:
            self._client.ack(packet.identifier, packet.quality)


def identified(observation: Observation, message: paho.MQTTMessage) -> Observation:
    """The observation with an id, by which a worker knows it again if it is delivered twice."""
    if observation.id is not None:
        return observation
    content = message.topic.encode() + b"\0" + message.payload + repr(observation.time).encode()
    return observation.model_copy(update={"id": hashlib.sha256(content).hexdigest()[:32]})


def letter_headers(message: paho.MQTTMessage, error: Unusable) -> list[tuple[str, bytes]]:
    """Headers of the dead letter of an MQTT message; its place is the packet identifier."""
    letter = DeadLetter(
        reason=error.reason,
        detail=error.detail,
        topic="mqtt",
        partition=0,
        offset=message.mid,
        mqtt_topic=message.topic,
    )
    return letter.headers()
