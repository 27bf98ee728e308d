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

from beliefstream.streams.live.beliefs import METHODS, Beliefs, Changes
from beliefstream.streams.live.overview import Overview, details

FRAME_INTERVAL = 0.2  # seconds
HEALTH_INTERVAL = 1.0  # seconds
SILENCE_SECONDS = 120.0  # without an acknowledgement a hidden page is kept this long
FRAME = struct.Struct("<IIdII")  # magic number, number of the frame, time, entities, not used
MAGIC = 0x31464C42  # "BLF1"


class Viewer:
    """Sends frames to one browser and hears what it selects."""

    def __init__(self, socket: WebSocket, beliefs: Beliefs, overview: Overview) -> None:
        self._socket, self._beliefs, self._overview = socket, beliefs, overview
        self._drawn = asyncio.Event()
        self._drawn.set()
        self._selected: str | None = None
        self._sample, self._details = 0, -1  # of the selected entity: the last sample, and the version sent
        self._version, self._letters = 0, -1
        self._definitions: object = None
        self._named, self._frames = 0, 0
        self._next_health = 0.0

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
            if not isinstance(message, dict):
                continue
            if message.get("type") == "drawn":
                self._drawn.set()
            elif message.get("type") == "select":
                name = message.get("name")
                self._selected = name if isinstance(name, str) else None
                self._sample, self._details = 0, -1

    async def _send_frames(self) -> None:
        while True:
            begin = time.monotonic()
            try:
                await asyncio.wait_for(self._drawn.wait(), SILENCE_SECONDS)
            except TimeoutError:
                await self._socket.close(1008, "no frame was acknowledged")
                return
            changes = self._beliefs.changes(self._version)
            notes = self._notes(changes)
            if notes or changes.entities:
                self._drawn.clear()
                if notes:
                    await self._socket.send_text(json.dumps(notes))
                await self._socket.send_bytes(self._frame(changes))
                self._version = changes.version
            await asyncio.sleep(max(0.0, begin + FRAME_INTERVAL - time.monotonic()))

    def _frame(self, changes: Changes) -> bytes:
        self._frames += 1
        head = FRAME.pack(MAGIC, self._frames, time.time(), len(changes.entities), 0)
        return b"".join((head, *(entity.block for entity in changes.entities)))

    def _notes(self, changes: Changes) -> dict[str, Any]:
        """What goes with the frame as JSON; it belongs before the frame, since it names the entities."""
        notes: dict[str, Any] = {}
        if not self._frames:
            notes["methods"] = METHODS
        if changes.gone:
            notes["gone"] = changes.gone
        if new := [each for each in changes.entities if each.number > self._named]:
            self._named = max(each.number for each in new)
            notes["names"] = [[each.number, each.name] for each in new]
        if (self._overview.version, self._beliefs.plane) != self._definitions:
            self._definitions = (self._overview.version, self._beliefs.plane)
            notes["plane"] = self._plane()
            notes["sensors"] = self._overview.listed_sensors(self._beliefs.plane)
        if time.monotonic() >= self._next_health:
            self._next_health = time.monotonic() + HEALTH_INTERVAL
            notes["health"] = self._overview.health(self._beliefs)
            if self._letters != self._overview.letter_count:
                self._letters = self._overview.letter_count
                notes["letters"] = self._overview.listed_letters()
        if found := self._details_of_selected():
            notes["details"] = found
        return notes

    def _details_of_selected(self) -> dict[str, Any] | None:
        entity = self._beliefs.entities.get(self._selected or "")
        if entity is None or entity.version <= self._details:
            return None
        found = details(entity, self._sample, self._overview)
        self._details, self._sample = entity.version, entity.sample_count
        return found

    def _plane(self) -> list[dict[str, str]]:
        """The two coordinates of the map, with units where a posterior has named them."""
        plane = self._beliefs.plane or ()
        newest = next(reversed(self._beliefs.entities.values()), None)
        coordinates = newest.posterior.coordinates if newest else ()
        units = {each.name: each.unit for each in coordinates}
        return [{"name": name, "unit": units.get(name, "")} for name in plane]
