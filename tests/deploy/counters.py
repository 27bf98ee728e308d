"""Counters that an expression of Prometheus needs, and that a worker does not show from its start at zero."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

COUNTER = re.compile(r"\b(beliefstream_[a-z_]+_(?:total|bucket|count|sum))\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|=)"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|on) \(([^)]*)\)")
OF_PROMETHEUS = {"instance", "job"}  # labels that it adds


def unborn(expressions: Iterable[str], samples: Iterable[Any]) -> Iterator[str]:
    """What is wrong: a counter has no series, one without a label, none with a value, or one that is not 0.

    Args:
        expressions: PromQL; braces hold `=` and `=~` alone.
        samples: of a worker that has done nothing yet; they have `name`, `labels` and `value`.
    """
    found: dict[str, list[Any]] = {}
    for sample in samples:
        found.setdefault(sample.name, []).append(sample)
    for expression in expressions:
        grouped = {label.strip() for names in GROUPING.findall(expression) for label in names.split(",")}
        for counter, matchers in COUNTER.findall(expression):
            series = found.get(counter, [])
            if not series:
                yield f"{counter}: no series"
            if any(each.value for each in series):
                yield f"{counter}: not 0"
            needed = {label: values.split("|") for label, _, values in MATCHER.findall(matchers)}
            for label in ({*needed} | grouped) - OF_PROMETHEUS - {""}:
                if any(label not in each.labels for each in series):
                    yield f"{counter}: no label {label}"
            for label, values in needed.items():
                shown = {each.labels.get(label) for each in series}
                yield from (f'{counter}: no {label}="{value}"' for value in values if value not in shown)
