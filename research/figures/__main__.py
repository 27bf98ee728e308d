"""`python -m research.figures`: measures what the pages show, keeps it, and writes it into README and docs/."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from beliefstream.streams.cli.main import run
from beliefstream.streams.cli.setup import CommandError
from research.bench.results import machine
from research.figures import kept, pages

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
MOST_PARTICLE_PROBLEMS = 200
REGIONS_OF = 5  # problems for coverage, for each of those for accuracy


def commands(count: int, brokers: str | None) -> dict[str, list[str]]:
    """The command of each part, after `python -m`."""
    number = str(min(count, MOST_PARTICLE_PROBLEMS))
    problems = ["--count", str(count), "--components", "8,32", "--particle-problems", number]
    kafka = ["--no-update", "--no-late", "--no-contradicted", "--no-embedded", "--brokers", str(brokers)]
    return {
        "short": ["research.bench.short"],
        "speed": ["research.bench", "--workers", "2"],
        "kafka": ["research.bench", "--workers", "2", *kafka],
        "answers": ["research.answers"],
        "accuracy": [
            "research.evaluate",
            *problems,
            "--calibration",
            str(REGIONS_OF * count),
            "--steps",
            "0",
        ],
    }


@app.command()
def main(
    only: Annotated[
        str, typer.Option(metavar="PART,...", help="kafka too with --brokers; '': write the pages alone")
    ] = "short,speed,answers,accuracy",
    brokers: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="of Apache Kafka, for the part kafka")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="for accuracy: problems of each dimension")] = 2000,
) -> None:
    """Measure parts, one after the other on an otherwise idle machine, and write the pages.

    Parts that are not measured keep their figures, with the commit and the machine of their own.

    Example: python -m research.figures --only speed,answers
    """
    chosen, known = [part for part in only.split(",") if part], commands(count, brokers)
    if unknown := set(chosen) - known.keys():
        raise CommandError(f"--only: expected {', '.join(known)}, got {', '.join(sorted(unknown))}")
    if "kafka" in chosen and brokers is None:
        raise CommandError("--only kafka needs --brokers")
    here = {"commit": commit(), "machine": machine(), "date": datetime.now(UTC).date().isoformat()}
    try:
        for part in chosen:
            found = measured(known[part])
            told = "python -m " + shlex.join(known[part]).replace(brokers or "HOST:PORT", "HOST:PORT")
            content = reduced(found) if part == "accuracy" else found
            kept.write({**kept.read(), part: {**content, **here, "command": told}})
    finally:  # those that were measured, if a later one fails
        for page, text in pages.written(kept.read()).items():
            page.write_text(text, encoding="utf-8")


def commit() -> str:
    """The commit that is checked out, and whether code differs from it; pages do when a part was measured before."""
    changed = git("status", "--porcelain", "--", ":/*.py", ":/pyproject.toml")
    return git("rev-parse", "--short=8", "HEAD") + ("-dirty" if changed else "")


def git(*arguments: str) -> str:
    """What git prints."""
    command = ["git", *arguments]
    root = Path(__file__).parent
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def measured(command: list[str]) -> dict[str, Any]:
    """Run a command of `research`, and return the JSON that it writes.

    Raises:
        CommandError: it fails.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder, "found.json")
        if subprocess.run([sys.executable, "-m", *command, "--json", str(path)], check=False).returncode:
            raise CommandError(f"python -m {shlex.join(command)} has failed")
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content


def reduced(found: Mapping[str, Any]) -> dict[str, Any]:
    """What the pages show of an evaluation, each figure by dimension.

    `distances` has mean, median and worst of each method, in nats; `evidence` the mean absolute error of the log
    evidence; `coverage` the share in each region; `problems` their numbers.
    """
    distances: dict[str, dict[str, list[float | None]]] = {}
    evidence, coverage = {}, {}
    for comparison in found["comparisons"]:
        dimension = str(comparison["dimension"])
        for row in comparison["table"]:
            if row["kind"] == "all":
                values = [row["mean"], row["median"], row["worst"]]
                distances.setdefault(row["method"], {})[dimension] = values
        evidence[dimension] = next(
            row["mean_absolute_error"] for row in comparison["evidence"] if row["method"] == pages.OURS
        )
    for each in found["calibration"]:
        if each["method"] == pages.OURS:
            coverage[str(each["dimension"])] = [row["share"] for row in each["coverage"]]
    problems = found["comparisons"][0]["problems"]
    return {"problems": problems, "distances": distances, "evidence": evidence, "coverage": coverage}


if __name__ == "__main__":
    run(app, "python -m research.figures", sys.argv[1:])
