"""The history of an entity: against a plain list, and in memory that is allocated once."""

from __future__ import annotations

import tracemalloc

import numpy as np

from beliefstream.streams.live.beliefs import MAXIMUM_SAMPLES, Samples

Plain = list[tuple[int, float, int, list[float]]]


def told(samples: Samples) -> Plain:
    return [(each.number, each.time, each.components, each.marginals.tolist()) for each in samples]


def test_samples_are_those_of_a_list() -> None:
    """Times go back now and then, and the number of components changes."""
    drawn = np.random.default_rng(4)
    samples, plain = Samples(), Plain()
    time, count = 0.0, 0
    for _ in range(3 * MAXIMUM_SAMPLES):
        time += 1.0 if drawn.random() < 0.95 else -float(drawn.integers(1, 9))
        components = int(drawn.integers(1, 4))
        marginals = drawn.normal(size=5 * components).astype(np.float32)
        samples.forget_from(time)
        samples.add(time, components, marginals)
        count += 1
        plain = [each for each in plain if each[1] < time]
        plain = [*plain, (count, time, components, marginals.tolist())][-MAXIMUM_SAMPLES:]
        assert (len(samples), samples.last, samples.count) == (len(plain), time, count)
    assert told(samples) == plain
    assert [each.number for each in samples.after(count - 3)] == [
        each[0] for each in plain if each[0] > count - 3
    ]
    samples.forget_from(-1e9)
    assert len(samples) == 0 and samples.last == -np.inf


def test_memory_is_allocated_with_the_first() -> None:
    samples, marginals = Samples(), np.ones(40, np.float32)
    tracemalloc.start()
    try:
        samples.add(0.0, 8, marginals)
        begin, _ = tracemalloc.get_traced_memory()
        for number in range(1, 2 * MAXIMUM_SAMPLES):
            samples.add(float(number), 8, marginals)
        end, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert begin > MAXIMUM_SAMPLES * marginals.nbytes
    assert end < 1.01 * begin + 500


def test_numbers_that_are_not_finite_are_finite_as_json() -> None:
    samples = Samples()
    samples.add(1.0, 1, np.array([np.nan, np.inf, 2.0], np.float32))
    (sample,) = samples
    assert sample.to_json() == {"t": 1.0, "k": 1, "q": [0.0, float(f"{np.finfo(np.float32).max:.7g}"), 2.0]}
