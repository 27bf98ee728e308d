"""The order of files in a run by several processes, each of which takes the next file when it has done one.

Files that start programs and brokers wait for them most of their time, the others compute. At every moment of the run
some processes are to do the one and some the other: else processors are idle first, and too few later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

# on an idle machine, of the files that take longest; they begin first, so that none is left over at the end
SECONDS = {
    "chaos/test_chaos.py": 180,
    "chaos/test_destroyed.py": 100,
    "chaos/test_lost_ends.py": 60,
    "chaos/test_reset_killed.py": 25,
    "chaos/test_zombie.py": 35,
    "research/evaluation/adversarial/test_honesty.py": 20,
    "inference/training/likelihood/test_learned_posterior.py": 50,
    "inference/update/test_invariance.py": 20,
    "streams/bridges/test_gateway_broker_away.py": 25,
    "streams/bridges/test_mqtt_bridge.py": 40,
    "streams/cli/doctor/test_run.py": 30,
    "streams/cli/test_secure_kafka.py": 40,
    "streams/client/test_group.py": 40,
    "streams/client/test_posteriors.py": 40,
    "streams/demo/test_demo.py": 70,
    "streams/kafka/faust/test_recovery.py": 60,
    "streams/live/test_browser.py": 40,
    "streams/live/test_browser_layout.py": 45,
    "streams/live/test_browser_outage.py": 55,
    "streams/live/test_browser_priors.py": 25,
    "streams/live/test_layers_browser.py": 20,
    "streams/live/test_map_browser.py": 20,
    "research/recordings/test_scores.py": 40,  # where the recordings are there
    "streams/state/test_changelog.py": 25,
    "streams/state/test_expiry.py": 25,
    "streams/state/test_table_recovery.py": 50,
    "streams/worker/test_bad_input.py": 40,
    "streams/worker/test_broker_away.py": 25,
    "streams/worker/test_entities_at_rest.py": 20,
    "streams/worker/test_fusion.py": 40,
    "streams/worker/test_overload.py": 30,
    "streams/worker/test_restart.py": 120,
    "streams/worker/test_sensor_health_killed.py": 50,
    "streams/worker/test_sensor_health_removed_workers.py": 55,
    "streams/worker/test_two_workers.py": 45,
    "streams/worker/test_watchdog.py": 30,
    "streams/worker/test_worker_learned_rows.py": 25,
    "test_docs.py": 30,
    "test_gallery.py": 20,
    "test_notebook.py": 30,
    "test_wheel.py": 55,
}
OTHERS = 4  # seconds, of a file that is not among them
TESTS = Path(__file__).parent


def spread(items: Iterable[pytest.Item], waits: Callable[[pytest.Item], bool]) -> list[pytest.Item]:
    """Whole files, the longest first, so that those that wait and those that compute come to their end together."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    longest = sorted(files.items(), key=lambda file: -_seconds(file[0]))
    kinds = ([file for file in longest if wanted is any(map(waits, file[1]))] for wanted in (True, False))
    placed: list[tuple[float, list[pytest.Item]]] = []
    for kind in kinds:
        total, done = sum(_seconds(path) for path, _ in kind), 0.0
        for path, found in kind:
            placed.append((done / total, found))
            done += _seconds(path)
    placed.sort(key=lambda file: file[0])
    return [item for _, found in placed for item in found]


def _seconds(path: Path) -> float:
    return SECONDS.get(str(path.relative_to(TESTS)), OTHERS)
