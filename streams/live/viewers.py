"""One browser's WebSocket: frames of what has changed, the next only after the last was drawn.

So a slow browser gets fewer frames, each with the newest beliefs, and nothing is queued for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from beliefstream.streams.live.beliefs import METHODS, Changes, earth_note
from beliefstream.streams.live.content import Content
from beliefstream.streams.live.overview import details

FRAME_INTERVAL = 0.1  # seconds, at least
HEALTH_INTERVAL = 1.0  # seconds
SILENCE_SECONDS = 120.0  # without an acknowledgement a hidden page is kept this long
FRAME = struct.Struct("<IIdII")  # magic number, number of the frame, time, entities, not used
MAGIC = 0x31464C42  # "BLF1"


class Viewer:
    """Sends frames to one browser and hears what it selects; `may_write` says whether it may send priors."""

    def __init__(self, socket: WebSocket, content: Content, may_write: bool) -> None:
        self._socket, self._content, self._may_write = socket, content, may_write
        self._beliefs, self._overview = content.beliefs, content.overview
        self._drawn, self._news = asyncio.Event(), asyncio.Event()
        self._drawn.set()
        self._selected: str | None = None
        self._past: float | None = None  # the time that is shown; None for now
        self._past_is_sent = False
        self._frames = 0
        self._next_health = 0.0
        self._begin()

    def _begin(self) -> None:
        """Everything is to be sent."""
        # of the selected entity: the last sample, and what was sent, by version and number of all dead letters
        self._sample, self._details = 0, (-1, -1)
        self._version, self._letters = 0, -1
        self._definitions: object = None
        self._verdicts: object = None
        self._named: dict[int, str] = {}  # models of the entities whose names were sent, by number
        self._is_whole = True

    def tell(self) -> None:
        """There is something new to send."""
        self._news.set()

    async def run(self) -> None:
        """Serve the browser until it leaves."""
        tasks = [asyncio.create_task(self._send_frames()), asyncio.create_task(self._hear())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with contextlib.suppress(WebSocketDisconnect):
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self) -> None:
        while True:
            received = await self._socket.receive()
            if received["type"] == "websocket.disconnect":
                return
            try:
                message = json.loads(received.get("text") or "")
            except (ValueError, RecursionError):
                continue  # not one of our messages
            if isinstance(message, dict):
                self._obey(message)
                self.tell()

    def _obey(self, message: dict[str, Any]) -> None:
        match message.get("type"):
            case "drawn":
                self._drawn.set()
            case "select":
                name = message.get("name")
                self._selected = name if isinstance(name, str) else None
                self._sample, self._details = 0, (-1, -1)
            case "past":
                moment = message.get("time")
                if isinstance(moment, (int, float)):
                    self._past, self._past_is_sent = float(moment), False
            case "live":
                self._past = None
                self._begin()

    async def _send_frames(self) -> None:
        while True:
            begin = time.monotonic()
            if not await _is_set(self._drawn, SILENCE_SECONDS):
                await self._socket.close(1008, "no frame was acknowledged")
                return
            self._news.clear()
            notes, frame = self._next() if self._past is None else self._next_of(self._past)
            if frame is not None:
                self._drawn.clear()
                if notes:
                    await self._socket.send_text(json.dumps(notes))
                await self._socket.send_bytes(frame)
            await asyncio.sleep(max(0.0, begin + FRAME_INTERVAL - time.monotonic()))
            await _is_set(self._news, max(0.0, self._next_health - time.monotonic()))

    def _next(self) -> tuple[dict[str, Any], bytes | None]:
        """What is new now."""
        changes = self._beliefs.changes(self._version)
        notes = self._notes(changes)
        if not notes and not changes.entities:
            return notes, None
        self._version = changes.version
        return notes, self._frame(len(changes.entities), changes.blocks)

    def _next_of(self, moment: float) -> tuple[dict[str, Any], bytes | None]:
        """What was at that time, once; then only how far back one can go, and the selected entity."""
        notes: dict[str, Any] = {}
        if time.monotonic() >= self._next_health:
            self._next_health = time.monotonic() + HEALTH_INTERVAL
            notes["range"], notes["stream"] = self._content.range(), self._content.stream()
            if found := self._details_of_selected():
                notes["details"] = found  # of now, with the history of the chart
        snapshot = None if self._past_is_sent else self._content.history.at(moment)
        if snapshot is None:
            return notes, self._frame(0) if notes else None
        self._past_is_sent = True
        notes["names"] = [each for each in snapshot.numbered() if each[0] not in self._named]
        notes["past"] = {"time": snapshot.time, "health": snapshot.health, "verdicts": snapshot.verdicts}
        return notes, self._frame(len(snapshot.numbers), snapshot.frame())

    def _frame(self, count: int, *blocks: bytes) -> bytes:
        self._frames += 1
        return b"".join((FRAME.pack(MAGIC, self._frames, time.time(), count, 0), *blocks))

    def _notes(self, changes: Changes) -> dict[str, Any]:
        """What goes with the frame as JSON; it belongs before the frame, since it names the entities."""
        notes: dict[str, Any] = {}
        if not self._frames:
            notes["methods"], notes["may_write"] = METHODS, self._may_write
        if self._is_whole:
            notes["whole"], self._is_whole = True, False  # what the browser has is to be forgotten
        if changes.gone:
            notes["gone"] = list(changes.gone)
            for number in changes.gone:
                self._named.pop(number, None)
        if new := [each for each in changes.entities if self._named.get(each.number) != each.posterior.model]:
            self._named |= {each.number: each.posterior.model for each in new}
            notes["names"] = [[each.number, each.name, each.posterior.model] for each in new]
        definitions = (self._overview.version, self._beliefs.plane, self._beliefs.stretch)
        if definitions != self._definitions:
            self._definitions = definitions
            plane, stretch = self._beliefs.plane, self._beliefs.stretch or 1.0
            notes["plane"] = self._plane()
            notes["earth"] = earth_note(plane, stretch, self._overview.sensors.values())
            notes["sensors"] = self._overview.listed_sensors(plane, stretch)
        version, verdicts = self._overview.listed_verdicts()
        if version != self._verdicts:
            self._verdicts = version
            notes["verdicts"] = verdicts
        if time.monotonic() >= self._next_health:
            self._next_health = time.monotonic() + HEALTH_INTERVAL
            notes["health"] = self._overview.health(self._beliefs)
            notes["range"], notes["stream"] = self._content.range(), self._content.stream()
            if self._letters != self._overview.letter_count:
                self._letters = self._overview.letter_count
                notes["letters"] = self._overview.listed_letters()
        if found := self._details_of_selected():
            notes["details"] = found
        return notes

    def _details_of_selected(self) -> dict[str, Any] | None:
        entity = self._beliefs.entities.get(self._selected or "")
        if entity is None or (entity.version, self._overview.letter_count) == self._details:
            return None
        found = details(entity, self._sample, self._overview)
        self._details, self._sample = (entity.version, self._overview.letter_count), entity.samples.count
        return found

    def _plane(self) -> list[dict[str, str]]:
        """The two coordinates of the map, with units where a posterior has named them."""
        plane = self._beliefs.plane or ()
        newest = next(reversed(self._beliefs.entities.values()), None)
        coordinates = newest.posterior.coordinates if newest else ()
        units = {each.name: each.unit for each in coordinates}
        return [{"name": name, "unit": units.get(name, "")} for name in plane]


async def _is_set(event: asyncio.Event, seconds: float) -> bool:
    """Wait for the event; whether it came in time."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
