"""The Faust table of beliefs, which chooses their store."""

from __future__ import annotations

from typing import Any

from beliefstream.streams.kafka.faust.hooks import TableWithStore
from beliefstream.streams.state.stores import BeliefStore, MemoryStore


class BeliefTable(TableWithStore):
    """A table of beliefs in memory or on disk; `options` are those of `streams.state.disk.DiskStore`."""

    def new_store(self) -> BeliefStore:
        """Return the store that the app's `store` setting names."""
        arguments: dict[str, Any] = {"table_name": self.name, "key_type": bytes, "value_type": bytes}
        url = self.app.conf.store
        if url.scheme == "memory":
            return MemoryStore(url, self.app, self, **arguments)
        from beliefstream.streams.state.disk import DiskStore  # needs rocksdict, which not every worker has

        return DiskStore(url, self.app, self, options=self.options, **arguments)

    @property
    def store(self) -> BeliefStore:
        """The table's store."""
        store: Any = self.data
        assert isinstance(store, BeliefStore)
        return store
