"""Reads the compacted topics of sensor and model definitions from the beginning, and follows them.

An invalid definition becomes a dead letter, and the previous one stays in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Generic, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from msgspec.structs import replace

from beliefstream.inference.sensors import Sensor
from beliefstream.inference.tracking.filtering import Outcome
from beliefstream.schemas import Model, Reason, Sensor as SensorMessage, Unusable, parse, parse_sensor
from beliefstream.schemas.base import check_size
from beliefstream.streams.definitions.errors import Devices
from beliefstream.streams.definitions.models import PosteriorWriter, state_model
from beliefstream.streams.definitions.sensors import sensor_over
from beliefstream.streams.kafka.aiokafka_clients import client_of, stop_consumer
from beliefstream.streams.kafka.reachability import TopicState, changes, topic_states

T = TypeVar("T")
log = structlog.get_logger()
ANY = "*"
# A topic counts as read after this time without a record past its reported end, because the embedded broker reports an
# end that is too low.
QUIET_MS = 250
FOLLOW_MS = 50  # longest time of one read, for which a batch with an unknown name has to wait


class PerSensor(Generic[T]):
    """What `make` returns for the definition of each sensor, made once.

    Where devices come and go, so do their sensors. What was made for removed ones is dropped when there is more of it
    than of the others: a search costs no more than what was made since the last one.

    Args:
        make: returns what is kept.
        defined: the present definitions by name; None if there are only those asked for.
    """

    def __init__(
        self, make: Callable[[SensorMessage], T], defined: Mapping[str, SensorMessage] | None
    ) -> None:
        self._make, self._defined = make, defined
        self._made: dict[str, tuple[SensorMessage, T]] = {}

    def __len__(self) -> int:
        return len(self._made)

    def of(self, definition: SensorMessage) -> T:
        """Return what was made for this definition, or make it."""
        made = self._made.get(definition.sensor)
        if made is None or made[0] is not definition:
            made = self._made[definition.sensor] = definition, self._make(definition)
            self._drop_removed()
        return made[1]

    def _drop_removed(self) -> None:
        defined = self._defined
        if defined is not None and len(self._made) > 2 * len(defined):
            self._made = {name: made for name, made in self._made.items() if defined.get(name) is made[0]}


Reject = Callable[[ConsumerRecord, Reason, str], Awaitable[None]]


class EntityModel:
    """A model with the state model, the posterior writer and the sensors built from it.

    Args:
        defined: the present definitions of sensors by name; None if no sensor is ever removed.
    """

    def __init__(self, model: Model, defined: Mapping[str, SensorMessage] | None = None) -> None:
        self.message = model
        self.state = state_model(model)
        self.writer = PosteriorWriter(model)
        self.coordinates = model.coordinate_names
        # errors are kept too, because the search for a missing measurement function takes time
        self._sensors = PerSensor(partial(_built, coordinates=model.coordinate_names), defined)

    def initial(self, time: float) -> Outcome:
        """Return the belief before any observation, which is the model's prior, at `time`."""
        return Outcome(replace(self.state.prior, time=time), 1.0, 0.0, 1.0, "prior")

    def sensor(self, definition: SensorMessage) -> Sensor:
        """Return the measurement model over this model's state; raises Unusable as `sensor_over` does."""
        built = self._sensors.of(definition)
        if isinstance(built, Unusable):
            raise Unusable(built.reason, built.detail)
        return built


def _built(definition: SensorMessage, coordinates: tuple[str, ...]) -> Sensor | Unusable:
    try:
        return sensor_over(definition, coordinates)
    except Unusable as error:
        return error


class Definitions:
    """The current definitions: `sensors` by name, `models` by entity (or `*`).

    Attributes:
        topics: names of the topics of sensors and of models.
        removals: how many sensors have been removed so far.
    """

    def __init__(self, sensors_topic: str, models_topic: str, maximum_bytes: int = 1_000_000) -> None:
        self._maximum_bytes = maximum_bytes  # longer definitions are rejected before they are parsed
        self.sensors: dict[str, SensorMessage] = {}
        self.models: dict[str, EntityModel] = {}
        self.removals = 0
        self.topics = sensors_topic, models_topic
        self._expiring: set[str] = set()
        self._devices = Devices()

    @property
    def expire(self) -> bool:
        """Whether any model has `expires_after`."""
        return bool(self._expiring)

    def model_for(self, entity: str) -> EntityModel | None:
        """Return the entity's own model, otherwise the model of `*`."""
        return self.models.get(entity) or self.models.get(ANY)

    def define(self, sensor: SensorMessage) -> None:
        """Define or replace a sensor; raises Unusable if it shares an error with another, and states other numbers."""
        self._devices.add(sensor)
        self.sensors[sensor.sensor] = sensor

    def apply(self, record: ConsumerRecord) -> None:
        """Apply one record of either topic.

        Raises:
            Unusable: it is not a valid definition; nothing has changed.
        """
        key = (record.key or b"").decode(errors="replace")
        check_size(record.value, self._maximum_bytes)
        if record.value is None:
            if record.topic == self.topics[0]:
                self.removals += self.sensors.pop(key, None) is not None
                self._devices.remove(key)
            else:
                self.models.pop(key, None)
                self._expiring.discard(key)
        elif record.topic == self.topics[0]:
            sensor = parse_sensor(record.value)
            _check_key("sensor", sensor.sensor, key)
            self.define(sensor)
        else:
            model = parse(Model, record.value)
            _check_key("entity", model.entity, key)
            self.models[key] = EntityModel(model, self.sensors)
            (self._expiring.discard if model.expires_after is None else self._expiring.add)(key)


def _check_key(field: str, name: str, key: str) -> None:
    if name != key:
        raise Unusable(Reason.key_mismatch, f"{field}: {name!r} is not the record's key {key[:80]!r}")


class DefinitionsReader:
    """Reads both topics with a consumer without a group, because every worker reads all partitions.

    A second one asks for their ends. A broker answers one request of a connection after the other, and a fetch of a
    topic to which nothing is written takes half a second.

    Args:
        options: additional options of `aiokafka.AIOKafkaConsumer`.
    """

    def __init__(
        self,
        definitions: Definitions,
        brokers: str,
        reject: Reject,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.definitions = definitions
        self._options = options or {}
        self._topics, self._brokers, self._reject = definitions.topics, brokers, reject
        self._consumer: AIOKafkaConsumer | None = None
        self._asking: AIOKafkaConsumer | None = None
        self._task: asyncio.Task[None] | None = None
        self._states: dict[str, TopicState] = {}  # of the topics at the start
        self._reading = asyncio.Lock()
        self._rejected: deque[tuple[ConsumerRecord, Unusable]] = deque()
        self.complete = asyncio.Event()
        self.known_before = -math.inf  # monotonic; what had been written to both topics by then is known

    @property
    def clients(self) -> list[AIOKafkaClient]:
        """Clients of both consumers; none before the start."""
        return [client_of(consumer) for consumer in (self._consumer, self._asking) if consumer is not None]

    async def start(self) -> None:
        """Read both topics to their end, then follow them in the background."""
        self._consumer, self._asking = self._new_consumer(), self._new_consumer()
        await asyncio.gather(self._consumer.start(), self._asking.start())
        self._states = await topic_states(client_of(self._consumer), self._topics)
        partitions = [
            TopicPartition(topic, partition)
            for topic in self._topics
            for partition in await self._partitions(topic)
        ]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_beginning(*partitions)
        await self.catch_up(QUIET_MS)
        self.complete.set()
        log.info(
            "definitions read", sensors=len(self.definitions.sensors), models=len(self.definitions.models)
        )
        self._task = asyncio.create_task(self._follow())

    def _new_consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            **self._options,
        )

    async def _partitions(self, topic: str) -> list[int]:
        assert self._consumer is not None
        await client_of(self._consumer).force_metadata_update()
        return sorted(self._consumer.partitions_for_topic(topic) or {0})

    async def changes(self) -> list[str]:
        """Return changes of the topics since the start; the first records of a new topic may have been skipped.

        Raises:
            aiokafka.errors.KafkaError, TimeoutError: no broker has answered for a minute.
        """
        if self._consumer is None or not self._states:
            return []
        return changes(self._states, await topic_states(client_of(self._consumer), self._topics))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task
        for consumer in (self._consumer, self._asking):
            if consumer is not None:
                await stop_consumer(consumer)

    async def catch_up(self, quiet_ms: int = 0) -> None:
        """Read to the current end, so that a sensor defined before an observation was sent is known.

        With `quiet_ms`, read until no record arrives for that time, because a broker may report an end that is too low.
        """
        assert self._consumer is not None and self._asking is not None
        began = time.monotonic()
        ends = await self._asking.end_offsets(list(self._consumer.assignment()))
        if quiet_ms or await self._is_behind(ends):  # else it does not wait for the read in progress
            async with self._reading:
                await self._read_to(ends, quiet_ms)
        self.known_before = max(self.known_before, began)

    async def _read_to(self, ends: Mapping[TopicPartition, int], quiet_ms: int) -> None:
        while True:
            behind = await self._is_behind(ends)
            if not behind and not quiet_ms:
                return
            records = await self._take(quiet_ms or FOLLOW_MS)
            if quiet_ms and not records and not behind:
                return

    async def _is_behind(self, ends: Mapping[TopicPartition, int]) -> bool:
        assert self._consumer is not None
        return any([await self._consumer.position(partition) < end for partition, end in ends.items()])

    async def _take(self, timeout_ms: int) -> int:
        assert self._consumer is not None
        fetched = await self._consumer.getmany(timeout_ms=timeout_ms)
        # all definitions before the dead letters: if one of these cannot be sent now, no definition is skipped
        records = [record for part in fetched.values() for record in part]
        for record in records:
            try:
                self.definitions.apply(record)
            except Unusable as unusable:
                self._rejected.append((record, unusable))
        while self._rejected:
            record, error = self._rejected[0]
            await self._reject(record, error.reason, error.detail)
            self._rejected.popleft()
        return len(records)

    async def _follow(self) -> None:
        while True:
            async with self._reading:
                try:
                    await self._take(FOLLOW_MS)
                except asyncio.CancelledError:
                    raise
                except Exception as error:
                    log.warning("definitions cannot be read; trying again", error=repr(error))
                    await asyncio.sleep(1.0)
            await asyncio.sleep(0)
