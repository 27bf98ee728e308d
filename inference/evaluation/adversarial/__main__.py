"""Quick look: python -m inference.evaluation.adversarial COUNT SEED [library|worker] [FAMILY...]"""

from __future__ import annotations

import sys

import torch

from inference.accuracy import Settings
from inference.evaluation.adversarial.report import report
from inference.evaluation.adversarial.run import findings
from inference.update import Updater
from inference.weights import load


def main() -> None:
    torch.set_num_threads(1)
    count, seed, setting, *names = [*sys.argv[1:3], *(sys.argv[3:] or ["library"])]
    settings = Settings() if setting == "library" else Settings(refine_below=0.7, repeat_below=0.5)
    found, _ = findings(Updater(load(), settings=settings), int(count), int(seed), names or None)
    content = report(found)
    print(
        f"{'family':30s} {'n':>4s} {'mean':>8s} {'median':>8s} {'worst':>8s} dish false near  ess  undec fault    ms"
    )
    for name, row in [*content["families"].items(), ("all", content)]:
        numbers = [
            math if math is not None else float("nan")
            for math in (row[k] for k in ("mean", "median", "worst"))
        ]
        shown = " ".join(f"{n:8.3f}" for n in numbers)
        close = row["near"] if row["near"] is not None else float("nan")
        print(
            f"{name:30s} {row['problems']:4d} {shown} {row['dishonest']:4d} {row['false_alarms']:4d} {close:5.2f} "
            f"{row['effective_sample_size']:.2f} {row['undecided']:4d} {row['faults']:4d} {row['milliseconds']:7.1f}"
        )
    for one in content["notable"]:
        print(one)


main()
