"""`make chaos`: the long run; `--seed` and `--observations` make it the same again."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.chaos import plan
from tests.chaos.report import Report, StageReport, by_fault
from tests.chaos.verdict import Failed
from tests.chaos.workload import Workload

PARTITIONS = 8
REPORT = Path("docs/chaos.md")


def main() -> int:
    """Runs the plan; 0 if the promise held."""
    parser = arguments()
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="beliefstream-chaos-"))
    print(f"workers log to {directory}", flush=True)
    page: Path = asked.report or (directory / "chaos.md" if asked.stage else REPORT)
    report = Report(command(parser, asked), asked.seed, asked.entities, PARTITIONS)
    parts = plan.workloads(asked.seed, asked.observations, asked.entities, asked.segments, asked.rounds)
    try:
        for number, (part, workload) in enumerate(parts):
            if asked.stage in part.name:
                print(f"{part.name}: {len(part.faults)} faults, {workload.total} observations", flush=True)
                _play(report, part, workload, directory / str(number))
    except Failed as failed:
        report.failure = str(failed)
        print(failed, file=sys.stderr)
    except BaseException as error:  # pytest.fail of what the run has of the tests, and Ctrl-C, too
        report.failure = f"the run broke off: {error!r}"
        traceback.print_exc()
    if not report.stages and not report.failure:
        report.failure = f"no stage has {asked.stage!r} in its name"
        print(report.failure, file=sys.stderr)
    report.write(page)
    print(report.markdown())
    print(f"the report is in {page}")
    return 1 if report.failure else 0


def _play(report: Report, part: plan.Part, workload: Workload, directory: Path) -> None:
    """Adds to the report what the stage has shown, also if it failed."""
    started = time.monotonic()
    with plan.stage(part, workload, directory) as stage:
        stage.say = lambda text: print(f"{time.monotonic() - started:7.1f} s  {text}", flush=True)
        try:
            stage.run()
        finally:
            taken = by_fault([(line.fault, line.recovery) for line in stage.lines])
            report.stages.append(
                StageReport(
                    part.name,
                    part.brokers,
                    stage.progress.applied,
                    round(time.monotonic() - started, 1),
                    stage.restarts,
                    stage.lost,
                    stage.double,
                    taken,
                )
            )


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the workload and of the order of the faults")
    parser.add_argument("--observations", type=int, default=1_000_000, help="in all stages together")
    parser.add_argument("--entities", type=int, default=1000)
    parser.add_argument("--segments", type=int, default=24, help="between which definitions change")
    parser.add_argument("--rounds", type=int, default=1, help="of all faults on one broker")
    parser.add_argument("--stage", default="", help="only those with this in their names")
    parser.add_argument(
        "--report",
        type=Path,
        help=f"with a .json beside it; {REPORT}, or with the logs if not all stages are run",
    )
    return parser


def command(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> str:
    """What makes the same run again: the seed, and every option that is not as by default."""
    options = [
        f"--{name} {shlex.quote(str(value))}"
        for name, value in vars(asked).items()
        if name in ("seed", "observations") or (name != "report" and value != parser.get_default(name))
    ]
    return f'make chaos ARGS="{" ".join(options)}"'


if __name__ == "__main__":
    sys.exit(main())
