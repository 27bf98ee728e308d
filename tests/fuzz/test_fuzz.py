"""No input brings a decoder down: what comes out is a message, or a documented refusal that anybody may be shown."""

from __future__ import annotations

import os
import time
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from tests.fuzz.targets import TARGETS

LONG = int(os.environ.get("FUZZ_INPUTS", "1000000"))
EACH = 25  # inputs from one seed of Hypothesis: to draw one costs as much as to try twenty
EXAMPLES = 40  # for one decoder, in the usual run


@pytest.mark.parametrize("name", TARGETS)
def test_sound_inputs_are_accepted(name: str) -> None:
    """Some at least: mutants of what is refused at once would test little."""
    accepted = [TARGETS[name].check(seed) for seed in TARGETS[name].seeds]
    assert sum(accepted) >= min(len(accepted), 3)


@pytest.mark.hypothesis  # of a function inside it, which `make search` would not see
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_brings_a_decoder_down(name: str) -> None:
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**64 - 1), st.binary(max_size=64))
    def attack(seed: int, raw: bytes) -> None:
        TARGETS[name].check(raw)
        random = Random(seed)
        for _ in range(EACH):
            TARGETS[name].attack(random)

    attack()


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", TARGETS)
def test_no_input_of_a_million_brings_a_decoder_down(name: str) -> None:
    count, began = 0, time.monotonic()
    examples = -(-LONG // len(TARGETS) // (EACH + 1))

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**64 - 1), st.binary(max_size=256))
    def attack(seed: int, raw: bytes) -> None:
        nonlocal count
        TARGETS[name].check(raw)
        random = Random(seed)
        for _ in range(EACH):
            TARGETS[name].attack(random)
        count += EACH + 1

    attack()
    print(f"\n{name}: {count} inputs in {time.monotonic() - began:.0f} s")
    assert count >= LONG // len(TARGETS)
