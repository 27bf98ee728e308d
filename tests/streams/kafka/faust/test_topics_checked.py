"""Results wait until the topics have been asked for after the last fetch, and no longer."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import faust
import pytest
from faust.types import TP

from beliefstream.streams.kafka.faust.consumer import SeekingConsumer, use_safe_consumer
from beliefstream.streams.kafka.reachability import TopicState

PLACE = TP("source", 0)
STATES = {"source": TopicState("the id", 4)}


class Asked:
    """Answers about topics when it is let, and notes how often it was asked."""

    def __init__(self) -> None:
        self.times, self._answers = 0, asyncio.Semaphore(0)

    async def __call__(self, names: Collection[str]) -> Mapping[str, TopicState]:
        self.times += 1
        await self._answers.acquire()
        return STATES

    async def answer(self) -> None:
        """Let one question be answered, and what waits for it run."""
        self._answers.release()
        for _ in range(10):
            await asyncio.sleep(0)


def test_results_wait_for_an_answer_to_a_question_after_the_last_fetch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fetched(*_: Any) -> dict[TP, list[Any]]:
        return {PLACE: []}

    monkeypatch.setattr(SeekingConsumer, "fetch", fetched)

    async def run() -> None:
        asked = Asked()
        app = faust.App("checked", broker="kafka://127.0.0.1:1", loop=asyncio.get_running_loop())
        use_safe_consumer(app, topic_states=asked)
        consumer: Any = app.consumer
        await asked.answer()
        await consumer.take_topics(["source"])
        await consumer.topics_checked()
        assert asked.times == 1
        await consumer.fetch({PLACE}, 1.0)
        results = asyncio.create_task(consumer.topics_checked())
        await asyncio.sleep(0)
        await consumer.fetch({PLACE}, 1.0)  # while the broker has not answered the first question
        later = asyncio.create_task(consumer.topics_checked())
        await asked.answer()
        assert results.done()
        assert not later.done()
        assert asked.times == 3
        await asked.answer()
        assert later.done()
        await consumer.topics_checked()
        assert asked.times == 3
        consumer._thread.thread_loop.close()

    asyncio.run(run())
