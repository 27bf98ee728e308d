"""Keeps what is made from the definitions of sensors, and drops it when they are replaced or removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from beliefstream.schemas import Sensor

T = TypeVar("T")


class PerSensor(Generic[T]):
    """What `make` returns for the definition of each sensor, made once.

    Where devices come and go, so do their sensors. What was made for removed ones is dropped when there is more of it
    than of the others: a search costs no more than what was made since the last one.

    Args:
        make: returns what is kept.
        defined: the present definitions by name; None if there are only those asked for.
    """

    def __init__(self, make: Callable[[Sensor], T], defined: Mapping[str, Sensor] | None) -> None:
        self._make, self._defined = make, defined
        self._made: dict[str, tuple[Sensor, T]] = {}

    def __len__(self) -> int:
        return len(self._made)

    def of(self, definition: Sensor) -> T:
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
