"""Writes the kept figures into README and docs/: the tables that follow a comment `<!-- figures: NAME -->`.

The sentence before each comment, from "Measured with" on, says where its figures are from, and is written too.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from research.answers import COLUMNS

ROOT = Path(__file__).parents[2]
WIDTH = 118
OURS = "checked and refined, K = 8"
DIMENSIONS = "1234"
METHODS = {
    OURS: "checked and refined",
    "checked and refined, K = 32": "the same, up to 64 components instead of 16",
    "network, K = 8": "the network alone, 8 tokens",
    "network, K = 32": "the network alone, 32 tokens",
    "iterated Gaussian-sum EKF": "iterated Gaussian-sum EKF",
    "UKF": "unscented Kalman filter, with a gate",
    "particle filter 10,000": "particle filter, 10 000, kernel density",
}
"""Methods of `python -m research.evaluate`, as the pages call them."""
IN_SHORT = (OURS, "network, K = 8", "iterated Gaussian-sum EKF")
SOURCES = {
    "simulated fleet": "simulated fleet",
    "plaza1": "mower, ranges",
    "ais_solent": "ships: position, speed and course",
    "ble_rssi": "Bluetooth",
}
"""Rows of `python -m research.answers` in README, as it calls them."""

Part = Mapping[str, Any]
Rows = Iterable[Sequence[str]]


class Table(NamedTuple):
    """A table of a page: the part of the figures that it shows, its head and its rows; text is the first column."""

    part: str
    head: Sequence[str]
    rows: Callable[[Part], Rows]


def written(figures: Mapping[str, Part]) -> dict[Path, str]:
    """The text of each page with these figures.

    Raises:
        ValueError: a page lacks the comment of a table.
    """
    found = {}
    for name, tables in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for marker, table in tables.items():
            comment = f"<!-- figures: {marker} -->"
            new = f"{sentence(figures[table.part], comment)}\n\n{markdown(table, figures[table.part])}"
            pattern = rf"Measured with [^|<]*{comment}\n\n(?:\|.*\n)+"
            text, count = re.subn(pattern, lambda _, new=new: new, text)  # type: ignore[misc]
            if count != 1:
                raise ValueError(f"{name}: expected one sentence 'Measured with ... {comment}' and its table")
        found[ROOT / name] = text
    return found


def sentence(part: Part, comment: str) -> str:
    """Where figures are from, and the comment that marks it."""
    told = (
        f"Measured with `{part['command']}` at commit {part['commit']} on {part['machine']}, {part['date']}"
    )
    note = f"; {part['note']}" if "note" in part else ""
    unbroken = comment.replace(" ", "\0")
    lines = textwrap.wrap(f"{told}{note}. {unbroken}", WIDTH, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


def markdown(table: Table, part: Part) -> str:
    """A table in Markdown; columns with a name are of figures, after the first."""
    places = "|".join("---:" if place and name else "---" for place, name in enumerate(table.head))
    head, *rows = (f"| {' | '.join(line)} |\n" for line in (table.head, *table.rows(part)))
    return "".join((head, f"|{places}|\n", *rows))


def number(value: float | None) -> str:
    """A figure with two significant digits, and no more than three decimals."""
    if value is None:
        return "∞"
    if value < 0.01:
        return f"{value:.3f}"
    return f"{value:#.2g}" if value < 9.95 else whole(float(f"{value:.1e}"))


def whole(value: float) -> str:
    """A count, with spaces between thousands."""
    return f"{value:,.0f}".replace(",", " ")


def rate(value: float) -> str:
    """A speed with three significant digits."""
    return whole(float(f"{value:.2e}"))


def _answers(part: Part) -> Rows:
    return [[name, *cells] for name, cells in part["rows"].items()]


def _answers_in_short(part: Part) -> Rows:
    return [[called, *part["rows"][name][:-1]] for name, called in SOURCES.items()]


def _distances(*methods: str) -> Callable[[Part], Rows]:
    def rows(part: Part) -> Rows:
        for name in methods:
            by_dimension = part["distances"][name]
            yield [METHODS[name], *(" / ".join(map(number, by_dimension[each])) for each in DIMENSIONS)]

    return rows


def _checks(part: Part) -> Rows:
    yield ["error of the log evidence, nats", *(number(part["evidence"][each]) for each in DIMENSIONS)]
    for place, region in enumerate(("50 %", "90 %", "99 %")):
        found = (part["coverage"].get(each) for each in DIMENSIONS)
        shares = (f"{100 * each[place]:.1f} %" if each else "–" for each in found)
        yield [f"true states in {region} regions", *shares]


def _updates(part: Part) -> Rows:
    for name, value in part["posteriors_per_second"].items():
        yield [name, rate(value), f"{part['of_stone_soup'][name]:.2f}", part["notes"][name]]


def _streams(broker: str) -> Callable[[Part], Rows]:
    def rows(part: Part) -> Rows:
        for reports, each in part["observations_per_second"][broker].items():
            share = part["of_the_echo"][broker][reports]
            yield [reports, rate(each["echo"]), rate(each["worker"]), f"{share:.2f}"]

    return rows


def _others(broker: str) -> Callable[[Part], Rows]:
    def rows(part: Part) -> Rows:
        latency = part["latency_ms"][broker]
        yield ["latency, median and 95 %", f"{latency['median']:.0f} ms, {latency['ninety_five']:.0f} ms"]
        workers = part["workers_per_second"][broker]
        yield ["one worker and two of a group, 60 reports each", ", ".join(map(rate, workers.values()))]
        for newer, times in part["late"].items():
            if newer != "0":
                yield [f"an observation that {newer} newer ones overtook", f"{times:.1f} × one on time"]
        if part["contradicted"]:
            yield [
                "every entity elsewhere at once",
                f"{part['contradicted']['share']:.2f} of the usual speed",
            ]

    return rows


def _speed_in_short(part: Part) -> Rows:
    speeds = part["posteriors_per_second"]
    for name in ("Stone Soup, one EKF update", "update, tracks", "update, planar family"):
        yield [name, rate(speeds[name]), part["notes"][name]]
    share, worker = part["of_the_echo"]["embedded"]["60"], part["observations_per_second"]["embedded"]["60"]
    told = f"60 reports each: {share:.2f} times a bare Faust echo"
    yield ["one worker, end to end", rate(worker["worker"]), told]


_BY_DIMENSION = ("1 coordinate", "2", "3", "4")
_OF_WORKERS = ("reports of each entity", "echo", "worker", "of the echo")
_REST = ("what else", "")
PAGES = {
    "README.md": {
        "answers": Table("answers", ("who answers", "posteriors", *list(COLUMNS)[:-1]), _answers_in_short),
        "accuracy": Table(
            "accuracy",
            ("nats from the exact posterior of held-out problems: mean / median / worst", *_BY_DIMENSION),
            _distances(*IN_SHORT),
        ),
        "speed": Table("speed", ("on one core, every posterior checked", "a second", ""), _speed_in_short),
    },
    "docs/accuracy.md": {
        "answers": Table("answers", ("", "posteriors", *COLUMNS), _answers),
        "accuracy": Table("accuracy", ("mean / median / worst", *_BY_DIMENSION), _distances(*METHODS)),
        "checks": Table("accuracy", ("", *_BY_DIMENSION), _checks),
    },
    "docs/speed.md": {
        "updates": Table("speed", ("update alone", "a second", "× Stone Soup", ""), _updates),
        "workers": Table("speed", _OF_WORKERS, _streams("embedded")),
        "rest": Table("speed", _REST, _others("embedded")),
        "kafka": Table("kafka", _OF_WORKERS, _streams("kafka")),
        "kafka, rest": Table("kafka", _REST, _others("kafka")),
    },
}
"""The tables of each page by their comment."""
