"""What a fetch brings is delivered in bulk as Faust delivers it record by record; Faust's own way is the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import faust
import pytest
from aiokafka.structs import ConsumerRecord
from faust.types import TP, Message
from hypothesis import given, settings, strategies as st

from beliefstream.streams.kafka.faust.consumer import SafeConsumer, use_safe_consumer
from beliefstream.streams.kafka.faust.delivery import PART, BulkConsumer

GENERATION = 7
PLACES = [TP("observations", 0), TP("observations", 1), TP("priors", 0)]
BYTES = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
}
Fetched = Mapping[TP, Sequence[int]]  # offsets by partition


def record(place: TP, offset: int) -> ConsumerRecord[bytes, bytes]:
    key, value = None if offset % 5 == 0 else b"key", None if offset % 7 == 0 else b"%d" % offset
    sizes = [-1 if content is None else len(content) for content in (key, value)]
    return ConsumerRecord(*place, offset, 1500, 0, key, value, None, *sizes, (("trace", b"id"),))


class Reading:
    """A worker's consumer without its thread, given its fetches, and the queues of the streams that read."""

    def __init__(self, streams: Sequence[Mapping[str, Any]] = (BYTES,), room: int = 4096) -> None:
        loop = asyncio.get_running_loop()
        self.app = cast(Any, faust).App(
            "bulk", broker="kafka://127.0.0.1:1", loop=loop, stream_buffer_maxsize=room
        )
        use_safe_consumer(self.app)
        self.consumer: Any = self.app.consumer
        conductor = self.app.topics
        channels = [
            self.app.topic("observations", "priors", **each).clone(is_iterator=True) for each in streams
        ]
        for channel in channels:
            conductor.add(channel)
        conductor._acking_topics.update({"observations", "priors"})
        conductor._update_tp_index(set(PLACES))
        conductor._update_callback_map()
        self.queues = [channel.queue for channel in channels]
        self.app.consumer_generation_id = GENERATION
        self.app.flow_control.resume()
        self.consumer._set_active_tps(set(PLACES))
        self.consumer.highwater = lambda place: None
        self.consumer.earliest_offsets = self._begins
        self.by_faust = 0  # messages that Faust delivered
        for place, deliver in conductor._tp_to_callback.items():
            conductor._tp_to_callback[place] = self._counted(deliver)
        self._stopped = asyncio.Event()
        self.when_fetched: Callable[[], Any] | None = None  # called when other tasks may run after a fetch

    def _counted(self, deliver: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        async def counted(message: Any) -> None:
            self.by_faust += 1
            await deliver(message)

        return counted

    async def _begins(self, *places: TP) -> dict[TP, int]:
        return dict.fromkeys(places, 0)

    async def read(self, *fetches: Fetched) -> None:
        """Deliver what these fetches bring."""
        left = [
            {place: [record(place, offset) for offset in offsets] for place, offsets in each.items()}
            for each in fetches
        ]

        async def fetch(active: Any, timeout: float) -> Any:
            if len(left) == 1:
                self._stopped.set()
            if self.when_fetched is not None:
                asyncio.get_running_loop().call_soon(self.when_fetched)
            return left.pop(0)

        self.consumer.fetch = fetch
        async with asyncio.timeout(30):
            await self.consumer._drain_messages(SimpleNamespace(_stopped=self._stopped))

    def taken(self, queue: int = 0) -> list[Any]:
        """Take all that waits on a queue."""
        events = []
        while not self.queues[queue].empty():
            events.append(self.queues[queue].get_nowait())
        return events

    def close(self) -> None:
        self.consumer._thread.thread_loop.close()


@contextmanager
def reading(*arguments: Any, **options: Any) -> Iterator[Reading]:
    made = Reading(*arguments, **options)
    try:
        yield made
    finally:
        made.close()


def content(event: Any) -> tuple[Any, ...]:
    """All that Faust says of an event."""
    message, app_only = event.message, {"time_in", "time_out", "time_total", "span", "__weakref__"}
    names = [name for name in cast(Any, Message).__slots__ if name not in app_only]
    return (event.key, event.value, event.headers, *(getattr(message, name) for name in names))


def by_place(events: Sequence[Any]) -> dict[TP, list[tuple[Any, ...]]]:
    found: dict[TP, list[tuple[Any, ...]]] = {}
    for event in events:
        found.setdefault(event.message.tp, []).append(content(event))
    return found


async def delivered(
    fetches: Sequence[Fetched], streams: Sequence[Mapping[str, Any]]
) -> tuple[list[Any], Any, Any]:
    """What each stream gets, the offsets read, and the gaps in them."""
    with reading(streams) as each:
        await each.read(*fetches)
        events = [by_place(each.taken(number)) for number in range(len(streams))]
        gaps = {place: sorted(map(tuple, gap)) for place, gap in each.consumer._gap.items() if gap}
        return events, dict(each.consumer._read_offset), gaps


STEPS = st.lists(st.sampled_from([1, 1, 1, 1, 2, 5]), min_size=1, max_size=3 * PART)


@st.composite
def logs(draw: st.DrawFn) -> list[dict[TP, list[int]]]:
    """Two fetches, with offsets missing here and there."""
    fetches: list[dict[TP, list[int]]] = [{}, {}]
    for place in PLACES:
        offset = draw(st.integers(-1, 3))
        for fetch in fetches:
            if draw(st.booleans()):
                fetch[place] = [offset := offset + step for step in draw(STEPS)]
    return fetches


@settings(deadline=None, max_examples=40)
@given(logs(), st.sampled_from([[BYTES], [BYTES, BYTES], [{**BYTES, "value_type": int}], [{}]]))
def test_every_stream_gets_what_faust_delivers(
    fetches: list[dict[TP, list[int]]], streams: list[dict[str, Any]]
) -> None:
    found = asyncio.run(delivered(fetches, streams))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BulkConsumer, "_deliver", lambda *_: 0)  # Faust delivers everything
        assert found == asyncio.run(delivered(fetches, streams))


def test_no_message_that_follows_another_needs_faust() -> None:
    async def run() -> None:
        with reading() as each:
            await each.read(dict.fromkeys(PLACES, range(1000)))
            assert (each.by_faust, len(each.taken())) == (0, 3000)

    asyncio.run(run())


def test_topics_of_a_fetch_take_turns_and_so_do_their_partitions() -> None:
    async def run() -> None:
        with reading() as each:
            await each.read({place: range(10 * PART) for place in PLACES})
            first = [event.message.tp for event in each.taken()[: 4 * PART]]
            assert [first.count(place) for place in PLACES] == [PART, PART, 2 * PART]

    asyncio.run(run())


def test_other_tasks_run_during_a_fetch() -> None:
    async def run() -> None:
        with reading() as each:
            turns = 0

            async def other() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0)

            task = asyncio.create_task(other())
            await each.read({PLACES[0]: range(4000)})
            task.cancel()
            assert turns >= 4000 / (2 * PART)

    asyncio.run(run())


def test_a_queue_is_never_longer_than_its_room_and_its_partition_is_paused() -> None:
    async def run() -> None:
        with reading(room=100) as each:
            task = asyncio.create_task(each.read({PLACES[0]: range(1000)}))
            found: list[int] = []
            async with asyncio.timeout(20):
                while len(found) < 1000:
                    await asyncio.sleep(0)
                    assert each.queues[0].qsize() <= 100
                    if each.queues[0].full():
                        assert PLACES[0] not in each.consumer._active_partitions
                        found += [event.message.offset for event in each.taken()]
                        assert PLACES[0] in each.consumer._active_partitions  # it is no longer paused
                    elif task.done():
                        found += [event.message.offset for event in each.taken()]
                await task
            assert found == [*range(1000)]
            assert each.by_faust <= 1000 / 50

    asyncio.run(run())


def new_generation(each: Reading) -> None:
    each.app.consumer_generation_id += 1


def stop_flow(each: Reading) -> None:
    each.consumer.stop_flow()


def begin_seek(each: Reading) -> None:
    each.consumer._seeks += 1


@pytest.mark.parametrize("offsets", [range(3000), range(0, 2 * PART, 2)], ids=["in bulk", "by Faust"])
@pytest.mark.parametrize("interrupt", [new_generation, stop_flow, begin_seek])
def test_the_rest_of_a_fetch_is_not_delivered_when_it_is_read_again(
    interrupt: Callable[[Reading], None], offsets: range
) -> None:
    async def run() -> None:
        with reading() as each:
            each.when_fetched = partial(interrupt, each)
            await each.read({PLACES[0]: offsets})
            found = [event.message.offset for event in each.taken()]
            assert 0 < len(found) < len(offsets)
            assert found == [*offsets[: len(found)]]
            assert each.consumer._read_offset[PLACES[0]] == found[-1]

    asyncio.run(run())


def test_nothing_is_delivered_while_the_flow_is_suspended() -> None:
    async def run() -> None:
        with reading() as each:
            each.app.flow_control.suspend()
            task = asyncio.create_task(each.read({PLACES[0]: range(10)}))
            for _ in range(20):
                await asyncio.sleep(0)
            assert each.queues[0].empty()
            each.app.flow_control.resume()
            await asyncio.wait_for(task, 5)
            assert len(each.taken()) == 10

    asyncio.run(run())


def test_a_message_of_two_streams_is_finished_when_both_have_acknowledged_it() -> None:
    async def run() -> None:
        with reading([BYTES, BYTES]) as each:
            consumer: SafeConsumer = each.consumer
            await each.read({PLACES[0]: range(3)})
            messages = [event.message for event in each.taken()]
            consumer.track(messages)
            consumer.acknowledge(messages)
            assert (set(consumer.unacked), consumer._acked[PLACES[0]]) == (set(messages), [])
            consumer.acknowledge([messages[0], messages[2]])
            assert (set(consumer.unacked), consumer._acked[PLACES[0]]) == ({messages[1]}, [0, 2])
            assert consumer._new_offset(PLACES[0]) == 1

    asyncio.run(run())
