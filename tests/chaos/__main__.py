"""`make chaos`: the long run; `--seed` and `--observations` make it the same again."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import plan
from tests.chaos.report import Report, StageReport, by_fault
from tests.chaos.stage import Failed
from tests.chaos.workload import Workload

PARTITIONS = 8


def main() -> int:
    """Runs the plan; 0 if the promise held."""
    asked = arguments()
    command = f'make chaos ARGS="--seed {asked.seed} --observations {asked.observations}"'
    report = Report(command, asked.seed, asked.entities, PARTITIONS)
    directory = Path(tempfile.mkdtemp(prefix="beliefstream-chaos-"))
    print(f"workers log to {directory}", flush=True)
    for number, part in enumerate(plan.full(asked.seed, asked.rounds)):
        if asked.stage and asked.stage not in part.name:
            continue
        observations = round(asked.observations * part.share)
        segments = part.segments or max(2, round(asked.segments * part.share))
        workload = Workload(asked.seed + number, observations, asked.entities, segments)
        print(f"{part.name}: {len(part.faults)} faults, {observations} observations", flush=True)
        try:
            report.stages.append(_played(part, workload, directory / str(number)))
        except Failed as failed:
            report.failure = str(failed)
            print(failed, file=sys.stderr)
            break
    report.write(asked.report)
    print(report.markdown())
    return 1 if report.failure else 0


def _played(part: plan.Part, workload: Workload, directory: Path) -> StageReport:
    started = time.monotonic()
    with plan.stage(part, workload, directory) as stage:
        stage.say = lambda text: print(f"{time.monotonic() - started:7.1f} s  {text}", flush=True)
        taken = by_fault([(line.fault, line.recovery) for line in stage.run()])
        return StageReport(
            part.name,
            part.brokers,
            stage.progress.applied,
            round(time.monotonic() - started, 1),
            stage.restarts,
            stage.lost,
            stage.double,
            taken,
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the workload and of the order of the faults")
    parser.add_argument("--observations", type=int, default=1_000_000, help="in all stages together")
    parser.add_argument("--entities", type=int, default=1000)
    parser.add_argument("--segments", type=int, default=24, help="between which definitions change")
    parser.add_argument("--rounds", type=int, default=1, help="of all faults on one broker")
    parser.add_argument("--stage", default="", help="only those with this in their names")
    parser.add_argument("--report", type=Path, default=Path("docs/chaos.md"), help="with a .json beside it")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
