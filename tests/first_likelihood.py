"""Measures the machine's part of docs/own-likelihood.md, up to its camera: `python -m tests.first_likelihood`.

The files of the page are written as they stand, and its commands run in turn, with no compiled code of an earlier
start. With `--environment DIR`, the commands are those of that environment.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.first_posterior import processor_seconds

PAGE = (Path(__file__).parents[1] / "docs" / "own-likelihood.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def write_log(folder: Path, name: str, definitions: list[str]) -> None:
    """Sensor, model and observation, a line each."""
    lines = (json.dumps(json.loads(block)) for block in definitions)
    (folder / name).write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--environment", type=Path, default=Path(sys.prefix))
    program = str(parser.parse_args().environment / "bin/beliefstream")
    problems, definitions = blocks("python"), blocks("json")
    with tempfile.TemporaryDirectory(prefix="beliefstream-likelihood-") as name:
        folder = Path(name)
        (folder / "geiger.py").write_text(problems[0], encoding="utf-8")
        (folder / "crowd.py").write_text(problems[1], encoding="utf-8")
        write_log(folder, "geiger.jsonl", definitions[:3])
        write_log(folder, "crowd.jsonl", definitions[3:])
        own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        own |= {"BELIEFSTREAM_MEASUREMENTS": "geiger,crowd", "XDG_CACHE_HOME": str(folder / "cache")}
        own |= {"NUMBA_CACHE_DIR": str(folder / "compiled")}
        fuse, train = ("fuse", "--strict"), ("train-likelihood", "--out", ".")
        steps = {
            "the counter: fuse, first start": (*fuse, "geiger.jsonl"),
            "the counter: fuse again": (*fuse, "geiger.jsonl"),
            "the camera: train": (*train, "crowd:CrowdCamera"),
            "the camera: fuse": (*fuse, "crowd.jsonl"),
        }
        began, total = time.monotonic(), 0.0
        for what, arguments in steps.items():
            start, before = time.monotonic(), processor_seconds()
            subprocess.run([program, *arguments], env=own, cwd=folder, check=True, capture_output=True)
            spent = processor_seconds() - before
            total += spent
            print(f"{what}: {time.monotonic() - start:.0f} s ({spent:.0f} s of CPU)", flush=True)
        print(f"all: {time.monotonic() - began:.0f} s ({total:.0f} s of CPU)")


if __name__ == "__main__":
    main()
