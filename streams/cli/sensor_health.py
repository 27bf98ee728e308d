"""Output of `beliefstream sensors list --health` and `sensors fit`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from beliefstream.streams.cli.output import Format, console, resolve

if TYPE_CHECKING:
    from beliefstream.inference.tracking.health.verdicts import Assessment, ChannelHealth

COLUMNS = ("sensor", "verdict", "number", "observations", "bias", "noise", "outliers", "gain", "evidence")


def print_health(format: Format | None, found: Mapping[str, Assessment]) -> None:
    """Print the health of each sensor: JSON lines, or a table with a row for each reported number.

    Ill sensors come first, and of these the one with the most evidence.
    """
    found = dict(sorted(found.items(), key=lambda item: _urgency(item[1])))
    if resolve(format) is Format.json:
        import json

        for sensor, assessment in found.items():
            print(json.dumps({"sensor": sensor, **_finite(asdict(assessment))}))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(*COLUMNS)
    for sensor, assessment in found.items():
        for number, channel in enumerate(assessment.channels):
            because = f" by {assessment.bent_by}" if assessment.bent_by else ""
            head = (sensor, assessment.verdict + because) if number == 0 else ("", "")
            table.add_row(*map(Text, (*head, *_cells(number, channel))))
    console().print(table)


def _urgency(assessment: Assessment) -> tuple[bool, float]:
    strongest = max(max(channel.evidence.values()) for channel in assessment.channels)
    return assessment.verdict in ("healthy", "unknown"), -strongest


def _cells(number: int, channel: ChannelHealth) -> tuple[str, ...]:
    strongest = max(channel.evidence, key=lambda fault: channel.evidence[fault])
    return (
        f"{number}: {channel.verdict}",
        f"{channel.count:.0f}",
        _known(channel.bias, f"{channel.bias:+.3g} ± {channel.bias_deviation:.2g}"),
        f"× {channel.noise_scale:.2f} ± {channel.noise_scale_deviation:.2f}",
        f"{channel.outlier_share:.1%} of {channel.stated_share:.1%}",
        _known(channel.gain, f"{channel.gain:.3f}"),
        f"{strongest}: {channel.evidence[strongest]:.1f}",
    )


def _known(value: float, text: str) -> str:
    return text if math.isfinite(value) else "unknown"


def _finite(value: Any) -> Any:
    """Replace numbers that JSON does not have by null."""
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
