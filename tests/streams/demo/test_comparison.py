from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from beliefstream.streams.demo.baselines import baselines, load, names, recordings, save, scored
from beliefstream.streams.demo.comparison import OURS, compare, ours, table, verdict, winners
from beliefstream.streams.demo.scenario import MOWER
from beliefstream.streams.scores.measures import Cases, ScoredCase
from tests.streams.demo.plays import perfect_tracker, posterior, small_schedule

SCHEDULE = small_schedule()


def some(offset: float, times: int = 4) -> Cases:
    levels = np.linspace(0.0, 1.0, times).tolist()
    return {("a", float(time)): ScoredCase(offset, -offset, 0.0, levels[time]) for time in range(times)}


def test_scores_are_taken_only_at_instants_that_all_methods_have() -> None:
    comparison = compare("group", "title", some(1.0, times=4), {"other": some(2.0, times=3)})
    assert comparison.instants == 3
    assert [row.rmse for row in comparison.rows] == pytest.approx([1.0, 2.0])
    assert comparison.rows[1].negative_log_likelihood == pytest.approx(2.0)


def test_the_best_of_a_score_is_found_and_a_tie_as_written_is_shared() -> None:
    comparison = compare("group", "title", some(1.0), {"near": some(1.001), "far": some(2.0)})
    assert winners(comparison, 0) == {OURS, "near"}
    assert winners(comparison, 3) == {OURS, "near", "far"}
    lines = verdict([compare("group", "title", some(2.0), {"near": some(1.0)})])
    assert lines == [
        "Best of all: group 90 % covers.",
        "Not best: group RMSE 2.00 m (near 1.00 m); group median error 2.00 m (near 1.00 m); "
        "group −ln p(truth) 2.00 (near 1.00).",
    ]


def test_the_table_has_a_row_a_method() -> None:
    assert table(compare("group", "title", some(1.0), {"other": some(2.0)})).row_count == 2


def test_nothing_in_common_is_no_failure() -> None:
    comparison = compare("group", "title", ours({}), {"other": some(2.0)})
    assert comparison.instants == 0
    assert math.isnan(comparison.rows[0].rmse)
    assert table(comparison).row_count == 2


def test_of_two_beliefs_at_one_instant_the_last_one_counts() -> None:
    tracker = perfect_tracker(SCHEDULE)
    track = tracker.track(MOWER)
    tracker.received(posterior(SCHEDULE, MOWER, track[-1].time, offset=(3.0, 4.0)), 1.0)
    found = ours({MOWER: tracker.track(MOWER)})
    *before, last = (found[key] for key in sorted(found))
    assert last.error == pytest.approx(5.0)
    assert max(case.error for case in before) < 1e-9
    # a Gaussian of 1 m a side: at its middle the density is 1 / (2 pi)
    np.testing.assert_allclose([case.log_density for case in before], -math.log(2 * math.pi), atol=1e-9)
    assert max(case.level for case in before) == 0.0


def test_baselines_answer_at_every_instant_of_the_stream_but_for_the_entity_of_the_gates(
    tmp_path: Path,
) -> None:
    tracker = perfect_tracker(SCHEDULE)
    fleet = {name: tracker.track(name) for name in SCHEDULE.fleet.entities if name != SCHEDULE.gates.entity}
    drones = {each.name: tracker.track(each.name) for each in SCHEDULE.drones}
    received = {MOWER: ours({MOWER: tracker.track(MOWER)}), "fleet": ours(fleet), "drones": ours(drones)}
    for name, group in recordings(SCHEDULE).items():
        found = {method: scored(group, each) for method, each in baselines(particles=200).items()}
        assert all(set(cases) == set(received[name]) for cases in found.values())
        saved = [each for each in names() if each.startswith(f"{name}/")]
        for key, cases in zip(saved, found.values(), strict=True):
            save(tmp_path, key, cases)
        comparison = compare(
            name, name, received[name], {key.split("/")[1]: load(tmp_path)[key] for key in saved}
        )
        assert comparison.instants == len(received[name])
        assert [row.method for row in comparison.rows] == [OURS, "EKF", "iterated EKF", "10 000 particles"]
        for row in comparison.rows:
            assert all(
                map(math.isfinite, (row.rmse, row.median, row.negative_log_likelihood, row.coverage90))
            )


def test_the_baselines_follow_the_mower() -> None:
    mower = recordings(SCHEDULE)[MOWER]
    for method in baselines(particles=1000).values():
        assert np.median([case.error for case in scored(mower, method).values()]) < 1.5
    *_, particles = baselines(particles=300).values()
    assert scored(mower, particles) == scored(mower, particles)
