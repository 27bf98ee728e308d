"""Runs the baselines on a scenario's observations: `python -m beliefstream.streams.demo.baselines SCENARIO FOLDER`.

It and its processes have the lowest priority, so that they use only idle processor time. All baselines have the
worker's models, priors and sensors. The particle filter also models the sensors' outliers; the extended Kalman filters
(EKF) do not. None has a gate, because a filter with a wrong belief would reject the observations that could correct it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import numpy as np
import torch

from beliefstream.streams.demo.scenario import MOWER, Scenario, Schedule, schedule_of
from beliefstream.streams.scores.measures import Cases, ScoredCase, Scores
from beliefstream.streams.scores.methods import ScoredMethod, classical, run
from beliefstream.streams.scores.recording import Recording
from beliefstream.streams.scores.tracks import log_of, tracks_of

PARTICLE_COUNT = 10_000
GROUPS = (MOWER, "fleet", "drones")


def baselines(particles: int = PARTICLE_COUNT) -> dict[str, ScoredMethod]:
    """Return the baselines by their names in the tables."""
    extended, iterated, regularised, _ = classical(particles)
    return {
        "EKF": extended,
        "iterated EKF": iterated,
        f"{particles:,} particles".replace(",", " "): regularised,
    }


def names() -> list[str]:
    """Return the names of all answers, in the order of the tables: `GROUP/METHOD`."""
    return [f"{group}/{method}" for group in GROUPS for method in baselines()]


def recordings(schedule: Schedule) -> dict[str, list[Recording]]:
    """Return the recordings of the entities that are compared, by group."""
    fleet = [_recording(schedule, name) for name in schedule.compared["fleet"]]
    return dict(zip(GROUPS, ([schedule.recording], fleet, list(schedule.drones)), strict=True))


def _recording(schedule: Schedule, entity: str) -> Recording:
    """Return the observations of one entity of the fleet, with the truth at their times."""
    fleet = schedule.fleet
    observations = [each for each in fleet.observations if each.entity == entity]
    times = np.array([each.time for each in observations])
    return Recording(
        entity,
        fleet.model.model_copy(update={"entity": entity}),
        fleet.sensors,
        observations,
        ("x", "y"),
        times,
        schedule.truth(entity, times),
    )


def scored(group: Sequence[Recording], method: ScoredMethod) -> Cases:
    """Run a baseline on all recordings of a group, and return the scores of its beliefs."""
    tracks = [track for each in group for track in tracks_of(each, log_of(each))]
    scores = Scores(sum(len(track.cases) for track in tracks))
    for track in tracks:
        run(method, track, scores, lambda: None)
    return scores.found


def save(folder: Path, name: str, answer: Cases) -> None:
    """Write the scored beliefs of one of `names` to a file of the folder."""
    unfinished = folder / f"baselines.{names().index(name)}.part"
    unfinished.write_text(json.dumps([[*key, *case] for key, case in answer.items()]))
    unfinished.replace(unfinished.with_suffix(".json"))


def load(folder: Path) -> dict[str, Cases]:
    """Read the answers that are saved so far, by name."""
    files = {name: folder / f"baselines.{number}.json" for number, name in enumerate(names())}
    return {
        name: {
            (entity, time): ScoredCase(*numbers) for entity, time, *numbers in json.loads(file.read_text())
        }
        for name, file in files.items()
        if file.exists()
    }


def _yield_processor() -> None:
    """Take the lowest priority, so that the stream has the processor when it needs it."""
    with suppress(AttributeError, OSError):
        os.nice(19)
    # Linux shares the processor equally among sessions, and `nice` counts only within one
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")


def _begin() -> None:
    """Make a process of the pool end with the one that started it; else it would wait for work for ever."""
    torch.set_num_threads(1)

    def end() -> None:
        starter = parent_process()
        assert starter is not None
        starter.join()
        os._exit(1)

    Thread(target=end, daemon=True).start()


def pool(processes: int) -> ProcessPoolExecutor:
    """Return processes that end with this one, however it ends."""
    return ProcessPoolExecutor(processes, get_context("spawn"), _begin)


def answer(scenario: str, group: str, name: str) -> Cases:
    """Run a baseline on a group; in a process of its own."""
    return scored(recordings(schedule_of(Scenario.from_json(scenario)))[group], baselines()[name])


def main(arguments: Sequence[str]) -> None:
    """Compute the baselines for all groups, and save each as it is done."""
    _yield_processor()
    scenario, folder = arguments[0], Path(arguments[1])
    with pool(min(len(names()), os.cpu_count() or 1)) as executor:
        # those that take longest come first, so that the processes end together
        running = {
            executor.submit(answer, scenario, group, method): f"{group}/{method}"
            for method in reversed(baselines())
            for group in reversed(GROUPS)
        }
        for done in as_completed(running):
            save(folder, running[done], done.result())


if __name__ == "__main__":
    main(sys.argv[1:])
