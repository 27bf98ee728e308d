"""Takes messages from an MQTT broker to Kafka; each is acknowledged only once Kafka has it."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import structlog
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from beliefstream.schemas import DeadLetter, Observation, Unusable
from beliefstream.streams.bridges.acknowledged import SLICE, Message
from beliefstream.streams.bridges.bridge import Bridge
from beliefstream.streams.bridges.mqtt.mapping import Mapping
from beliefstream.streams.bridges.serving import application, serve
from beliefstream.streams.settings import Settings

log = structlog.get_logger(__name__)

DELIVERY_SECONDS = (
    300.0  # while Kafka is away, messages wait this long in the bridge, then at the MQTT broker
)
RETRY_SECONDS, CLOSE_SECONDS = 2.0, 10.0
KEEP_ALIVE = 30  # seconds
SILENCE = 10.0  # seconds for a client of the bridge's pages
NEVER_RETAINED = 2  # MQTT 5: a retained message is an old one, told again with every subscription


class MqttRefused(ConnectionError):
    """The MQTT broker does not accept the connection."""


async def serve_mqtt(settings: Settings, mapping: Mapping, listening: socket.socket) -> Counter[str]:
    """Forward messages until SIGTERM or SIGINT, and serve the bridge's pages on a bound socket.

    Returns:
        How many messages had each outcome.

    Raises (at the start only):
        BrokerUnavailable: of Kafka.
        MqttRefused, OSError: of the MQTT broker.
    """
    bridge = Bridge(settings, "mqtt", (Observation, DeadLetter), DELIVERY_SECONDS)
    source = MqttSource(bridge, mapping)
    app = application(bridge, settings.token, source.waiting_for)
    async with bridge.connected():
        await serve(app, listening, source.stop, source.run(), silence=SILENCE, grace=CLOSE_SECONDS)
    return bridge.counts


class MqttSource:
    """The messages of one MQTT broker (MQTT 5).

    Its session outlives it: the MQTT broker keeps messages of QoS 1 for it while it is away.
    """

    def __init__(self, bridge: Bridge, mapping: Mapping) -> None:
        self._bridge, self._mapping = bridge, mapping
        self._place = bridge.settings.mqtt_url.place
        self._stopped = asyncio.Event()
        self._is_connected = self._was_connected = False
        bridge.metrics.connected(False)

    def waiting_for(self) -> list[str]:
        """What the source waits for; empty while the MQTT broker is connected."""
        return [] if self._is_connected else [f"the MQTT broker at {self._place} is not connected"]

    def stop(self) -> None:
        """Let `run` end."""
        self._stopped.set()

    async def run(self) -> None:
        """Forward messages until `stop` is called; after a fault, connect again.

        Raises (at the start only):
            MqttRefused, OSError: of the MQTT broker.
        """
        while not self._stopped.is_set():
            session = _Session(self._bridge, self._mapping, self._place, self._connected)
            try:
                await session.run(self._stopped)
            except OSError as error:
                if not self._was_connected:
                    raise
                log.warning("the bridge connects again", error=str(error))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopped.wait(), RETRY_SECONDS)

    def _connected(self, connected: bool) -> None:
        self._bridge.metrics.connected(connected, again=self._was_connected)
        self._is_connected = connected
        self._was_connected |= connected


class _Packet(NamedTuple):
    """A message of an MQTT connection that waits for Kafka, and what it maps to."""

    connection: int
    identifier: int
    quality: int
    message: Message


class _Session:
    """A connection to the MQTT broker; after a message that Kafka has not taken, it ends.

    paho has a thread of its own, which hands everything to the event loop. `connected` is called with whether the MQTT
    broker is connected when that changes.
    """

    def __init__(
        self, bridge: Bridge, mapping: Mapping, place: str, connected: Callable[[bool], None]
    ) -> None:
        self._bridge, self._mapping, self._place, self._connected = bridge, mapping, place, connected
        self._loop = asyncio.get_running_loop()
        self._fault: asyncio.Future[None] = self._loop.create_future()
        self._connection = 0  # packet identifiers count within a connection only
        self._session_kept = False  # whether the broker has kept what came while the bridge was away
        self._waiting: deque[_Packet] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._client = self._make_client()

    async def run(self, stopped: asyncio.Event) -> None:
        """Forward until `stopped`. Raises the fault that ended it."""
        await asyncio.to_thread(self._connect)
        self._client.loop_start()
        stopping = asyncio.create_task(stopped.wait())
        ends: set[asyncio.Future[Any]] = {stopping, self._fault}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not self._fault.done() and self._tasks:
                await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
                if self._tasks:
                    log.warning("messages remain with the MQTT broker")
        finally:
            for task in (stopping, *self._tasks):
                task.cancel()
            self._client.disconnect()
            await asyncio.to_thread(self._client.loop_stop)
            self._connected(False)
        if self._fault.done():
            self._fault.result()

    def _connect(self) -> None:
        settings, properties = self._bridge.settings, Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = int(settings.mqtt_session_seconds)
        # the back-pressure: the broker sends no more unasked
        properties.ReceiveMaximum = settings.mqtt_in_flight
        self._client.connect(
            settings.mqtt_url.host,
            settings.mqtt_url.port,
            KEEP_ALIVE,
            clean_start=False,
            properties=properties,
        )

    def _make_client(self) -> paho.Client:
        settings = self._bridge.settings
        client = paho.Client(
            CallbackAPIVersion.VERSION2, settings.mqtt_client, protocol=paho.MQTTv5, manual_ack=True
        )
        client.reconnect_delay_set(1, 10)
        if settings.mqtt_url.username:
            password = settings.mqtt_password
            client.username_pw_set(
                settings.mqtt_url.username, password.get_secret_value() if password else None
            )
        if settings.mqtt_url.tls:
            authority, own, key = (
                str(file) if file else None
                for file in (settings.mqtt_ca_file, settings.mqtt_certificate_file, settings.mqtt_key_file)
            )
            client.tls_set(authority, own, key)
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_subscribe, client.on_message = self._on_subscribe, self._on_message
        return client

    def _fail(self, error: Exception) -> None:
        """End the session, in whichever thread; the first fault counts."""

        def fail() -> None:
            if not self._fault.done():
                self._fault.set_exception(error)

        self._loop.call_soon_threadsafe(fail)

    def _on_connect(
        self, client: paho.Client, _: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        if reason.is_failure:
            self._fail(MqttRefused(f"the MQTT broker at {self._place} refuses the connection: {reason}"))
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
            self._fail(MqttRefused(f"the MQTT broker at {self._place} refuses to send {', '.join(refused)}"))
            return
        self._loop.call_soon_threadsafe(self._connected, True)
        log.info("connected to the MQTT broker", session_kept=self._session_kept)

    def _on_disconnect(self, client: Any, _: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        self._loop.call_soon_threadsafe(self._lost, reason)

    def _lost(self, reason: ReasonCode) -> None:
        self._connected(False)
        if reason.is_failure and not self._fault.done():
            log.warning("the connection to the MQTT broker is lost, trying again", reason=str(reason))

    def _on_message(self, client: paho.Client, _: Any, message: paho.MQTTMessage) -> None:
        self._loop.call_soon_threadsafe(self._take, message, self._connection)

    def _take(self, message: paho.MQTTMessage, connection: int) -> None:
        """Map a message, and forward it with those that have come meanwhile."""
        if self._fault.done():
            return  # not acknowledged: it comes again with the next connection
        try:
            mapped = self._mapped(message)
        except Exception as error:  # the loop would log it, and the bridge run on
            self._fail(error)
            return
        if not self._waiting:
            self._loop.call_soon(self._forward_waiting)
        self._waiting.append(_Packet(connection, message.mid, message.qos, mapped))

    def _mapped(self, message: paho.MQTTMessage) -> Message:
        payload = bytes(message.payload)
        try:
            observation = self._mapping.observation(
                message.topic, payload, time.time(), self._bridge.settings.maximum_message_bytes
            )
        except Unusable as error:
            log.warning("a message does not map", topic=message.topic, detail=error.detail)
            return dead_letter(message, payload, error)
        return identified(observation, message)

    def _forward_waiting(self) -> None:
        while self._waiting:
            packets = [self._waiting.popleft() for _ in range(min(SLICE, len(self._waiting)))]
            task = asyncio.create_task(self._forward(packets))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _forward(self, packets: Sequence[_Packet]) -> None:
        outcomes = await self._bridge.forward([packet.message for packet in packets], "observations")
        for packet, outcome in zip(packets, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self._fail(outcome)
            elif packet.connection == self._connection and packet.quality:
                self._client.ack(packet.identifier, packet.quality)


def identified(observation: Observation, message: paho.MQTTMessage) -> Observation:
    """The observation with an id, by which a worker knows it again if it is delivered twice."""
    if observation.id is not None:
        return observation
    content = message.topic.encode() + b"\0" + message.payload + repr(observation.time).encode()
    return observation.model_copy(update={"id": hashlib.sha256(content).hexdigest()[:32]})


def dead_letter(message: paho.MQTTMessage, payload: bytes, error: Unusable) -> DeadLetter:
    """The dead letter of an MQTT message; its place is the packet identifier."""
    return DeadLetter(
        reason=error.reason,
        detail=error.detail,
        topic="mqtt",
        partition=0,
        offset=message.mid,
        mqtt_topic=message.topic,
        value=payload,
    )
