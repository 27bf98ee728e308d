"""Where the observations of `beliefstream sensors fit` and `fit-files` come from: their topic, or files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from beliefstream.streams.cli.options import name_of, tell
from beliefstream.streams.cli.output import console, counted
from beliefstream.streams.cli.setup import CommandError, opened

if TYPE_CHECKING:
    from beliefstream.schemas import Observation
    from beliefstream.streams.bridges.mapping import ColumnMapping, Found
    from beliefstream.streams.fitting.evidence import Definitions
    from beliefstream.streams.fitting.stored import Refusals, Stored
    from beliefstream.streams.settings import Settings


class Files(NamedTuple):
    """Files of observations."""

    names: Sequence[str]
    columns: ColumnMapping

    def read(self, stated: Definitions, settings: Settings) -> list[Observation]:
        """The observations by time that a worker would apply; raises CommandError if there is none."""
        from beliefstream.streams.bridges.mapping import observations
        from beliefstream.streams.bridges.tables import format_of, open_table

        rows: list[Found] = []
        for file in self.names:
            with closing(open_table(file, format_of(file), self.columns.bag)) as table:
                rows += observations(table, self.columns)
        return _usable(rows, stated, tell, f"{', '.join(map(name_of, self.names))}: no row")


class Topic(NamedTuple):
    """The topic of observations: at most so many, the newest, of these entities (or of all), from a time on."""

    most: int
    entities: Sequence[str]
    since: float

    def read(self, stated: Definitions, settings: Settings) -> list[Observation]:
        """As `Files.read`; tells on standard error what was read, and what cannot be used."""
        from beliefstream.streams.fitting.stored import Part, Refusals, read_observations

        topic, refusals = settings.names.observations, Refusals()
        with console(errors=True).status(f"reading {topic}"):
            stored = opened(read_observations, settings, topic, part=Part(*self), refusals=refusals)
        try:
            return _usable(stored.found, stated, refusals.add, f"{topic}: no observation")
        finally:
            self._tell(topic, stored, refusals)

    def _tell(self, topic: str, stored: Stored, refusals: Refusals) -> None:
        lines = [f"{topic}: {counted(stored.records, 'record')}, {len(stored.found)} taken"]
        if stored.older:
            lines.append(f"{counted(stored.older, 'older observation')} left out (--limit {self.most})")
        if stored.unread:
            lines.append(f"not read in time, and left out: {', '.join(stored.unread)}")
        for reason, count in refusals.counts.most_common():
            first = refusals.first[reason]
            lines.append(f"{count} cannot be used, the first at {first.place}: {first.observation}")
        print(*lines, sep="\n", file=sys.stderr)


def _usable(
    rows: Iterable[Found], stated: Definitions, refuse: Callable[[Found], None], nothing: str
) -> list[Observation]:
    from beliefstream.streams.scores.own import usable

    observed = usable(rows, stated.sensors, stated.models, refuse)
    if not observed:
        raise CommandError(f"{nothing} can be used; nothing was fitted")
    return observed
