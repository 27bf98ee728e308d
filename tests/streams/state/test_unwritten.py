"""Changes in front of a store, against a dictionary that gets all of them at once."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given, strategies as st

from beliefstream.streams.state.unwritten import Unwritten

KEYS = [b"a", b"b", b"c"]
BATCHES = st.lists(
    st.dictionaries(
        st.sampled_from([0, 1]), st.dictionaries(st.sampled_from(KEYS), st.none() | st.binary(max_size=2))
    )
)


class Stored(dict[tuple[int, bytes], bytes]):
    """The part of a store that is read."""

    def read(self, partition: int, key: bytes) -> bytes | None:
        return self.get((partition, key))

    def write(self, changes: dict[int, dict[bytes, bytes | None]]) -> None:
        for partition, made in changes.items():
            for key, value in made.items():
                if value is None:
                    self.pop((partition, key), None)
                else:
                    self[partition, key] = value


@given(BATCHES)
def test_reading_finds_the_newest_change_whether_it_is_written_or_not(
    batches: list[dict[int, dict[bytes, bytes | None]]],
) -> None:
    """Each batch is written when the next one is computed."""
    store, expected = Stored(), Stored()
    unwritten = Unwritten(cast(Any, store))
    for index, changes in enumerate(batches):
        unwritten.add(changes)
        expected.write(changes)
        if index:
            store.write(batches[index - 1])
            unwritten.remove(batches[index - 1])
        for partition in (0, 1):
            for key in KEYS:
                assert unwritten.read(partition, key) == expected.read(partition, key)
    for changes in batches[-1:]:
        store.write(changes)
        unwritten.remove(changes)
    assert len(unwritten) == 0
    assert store == expected
