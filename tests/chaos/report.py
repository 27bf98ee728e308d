"""The table of a chaos run, for people and for programs."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self


@dataclass
class StageReport:
    """What one stage has shown. `recoveries`: by fault, the seconds of each time."""

    name: str
    brokers: int
    messages: int
    seconds: float
    restarts: int
    lost: int
    double: int
    recoveries: dict[str, list[float]]


@dataclass
class Report:
    """Of a run."""

    command: str
    seed: int
    entities: int
    partitions: int
    failure: str = ""
    stages: list[StageReport] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """As Markdown to `path`, and as JSON beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.markdown())
        path.with_suffix(".json").write_text(json.dumps(asdict(self), indent=1) + "\n")

    def markdown(self) -> str:
        """The whole page."""
        messages, seconds = sum(s.messages for s in self.stages), sum(s.seconds for s in self.stages)
        said = self.failure or (
            "At the end, every belief equals that of a single-threaded replay of\n"
            "the log without duplicates. No observation is missing, and none was applied twice. Sequence numbers\n"
            "have no gaps. The dead letters are exactly those expected."
        )
        lines = [
            "# Chaos runs",
            "",
            f"`{self.command}`: {messages:,} messages of {self.entities} entities in {self.partitions} partitions,",
            f"in {seconds / 60:.0f} minutes. {said}",
            "",
            "A tenth of the observations are late. Some are repeated or invalid, and some entities get new priors.",
            "Models and sensors change only after all earlier messages have been applied, so that it is known which",
            'definition each observation has. In the stage "destroyed logs" they do not change. In that stage, 400',
            "observations are deleted before a worker reads them: the workers must report and count them.",
            "",
            "Recovery is the time from the fault until all workers are ready and every partition has new posteriors,",
            "including the fault itself. Messages that are lost, or applied twice (double), are counted at the end of",
            "a stage, over all its faults.",
            "",
            "| stage | fault | times | recovery, median | worst | lost | double |",
            "|---|---|---|---|---|---|---|",
        ]
        for stage in self.stages:
            for fault, taken in sorted(stage.recoveries.items()):
                middle = sorted(taken)[len(taken) // 2]
                lines.append(
                    f"| {stage.name} | {fault} | {len(taken)} | {middle:.1f} s | {max(taken):.1f} s "
                    f"| {stage.lost} | {stage.double} |"
                )
        return "\n".join(lines) + "\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """From the JSON that `write` has written."""
        known = json.loads(path.read_text())
        return cls(**(known | {"stages": [StageReport(**stage) for stage in known["stages"]]}))


def by_fault(taken: list[tuple[str, float]]) -> dict[str, list[float]]:
    """Seconds of each time, by fault."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for fault, seconds in taken:
        found[fault].append(round(seconds, 2))
    return dict(found)
