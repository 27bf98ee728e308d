"""What the benchmarks send is what they say: late within the window, and priors about the true state."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from research.bench.end_to_end.workload import in_order, mixed

ENTITIES, REPORTS = 30, 40


def test_the_plain_workload_is_in_order_of_time() -> None:
    work = in_order(ENTITIES, REPORTS)
    times = [observation.time for observation in work.observations]
    assert times == sorted(times)
    assert not work.priors
    assert work.name == "40"


def test_a_tenth_is_late_and_all_are_within_the_lateness_window() -> None:
    work = mixed(ENTITIES, REPORTS)
    newest: dict[str, float] = defaultdict(lambda: -np.inf)
    behind = []
    for observation in work.observations:
        behind.append(newest[observation.entity] - observation.time)
        newest[observation.entity] = max(newest[observation.entity], observation.time)
    window = work.simulation.model.lateness_window
    assert max(behind) < window
    # those that nothing has overtaken are not late: about three reports of an entity in four are overtaken
    assert 0.03 < np.mean(np.array(behind) > 0) < 0.12


def test_nothing_is_lost_or_sent_twice() -> None:
    plain, work = in_order(ENTITIES, REPORTS), mixed(ENTITIES, REPORTS)
    assert sorted(each.to_json() for each in work.observations) == sorted(
        each.to_json() for each in plain.observations
    )


def test_priors_are_a_hundredth_and_near_the_truth() -> None:
    work = mixed(100, REPORTS)
    assert 0.005 < len(work.priors) / len(work.observations) < 0.02
    for prior in work.priors:
        truth = work.simulation.truth_at(prior.entity, prior.time)[0]
        mean, spread = np.array(prior.mixture.means[0]), np.sqrt(np.diag(prior.mixture.covariances[0]))
        assert np.all(np.abs(mean - truth) < 6 * spread)
