"""A Faust table with a custom store class (Faust 0.15.3).

Faust has a fixed list of store classes, and chooses one by the scheme of the `store` setting. An application can
provide its own class only through the private `_new_store`.
Fixed upstream when `faust.Table` takes a store, or a public factory of stores.
"""

from __future__ import annotations

import abc
from typing import Any

import faust

from beliefstream.streams.monitoring.logs import SERVICES

__all__ = ["TableWithStore"]


class TableWithStore(faust.Table[bytes, bytes], abc.ABC):
    """A table that creates its own store."""

    logger = SERVICES

    @abc.abstractmethod
    def new_store(self) -> Any:
        """Return the store; called once."""

    def _new_store(self) -> Any:
        return self.new_store()
