"""A Faust table with a store of one's own class (Faust 0.15.3).

Faust finds the class of a table's store by the scheme of the `store` setting, in a table of its own. A class of the
application can only be given by its private `_new_store`.
It is mended when `faust.Table` takes a store, or a public factory of stores.
"""

from __future__ import annotations

import abc
from typing import Any

import faust

from beliefstream.streams.monitoring.logs import SERVICES

__all__ = ["TableWithStore"]


class TableWithStore(faust.Table[bytes, bytes], abc.ABC):
    """A table that makes its own store."""

    logger = SERVICES

    @abc.abstractmethod
    def new_store(self) -> Any:
        """Return the store; called once."""

    def _new_store(self) -> Any:
        return self.new_store()
