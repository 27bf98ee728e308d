"""The fast decoder takes no message that the schema refuses, and reads all others as the schema does."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, strategies as st

from beliefstream.schemas import Observation, Unusable, parse
from beliefstream.streams.definitions.observations import MOST_BYTES, plain_observation
from tests.fuzz.mutation import mutant

SOUND = (
    b'{"entity":"mower","sensor":"range","time":5.0,"value":3.0}',
    b'{"entity": "a:b/c@d+e-f.g_1", "sensor": "9", "time": -3, "value": [1, 2.5, -1e-9], "id": "one two"}',
    b'\n{"value":12,"id":null,"time":1769860800.25,"sensor":"range","entity":"mower"}\t',
)
OTHERS = (
    b'{"entity":"mower","sensor":"range","time":"2026-01-31T12:00:00Z","value":3.0}',
    b'{"entity":"mower","sensor":"range","time":5.0,"value":3.0,"standard_deviation":1.0}',
    b'{"entity":"mower","sensor":"range","time":5.0,"value":[3.0],"covariance":[[1.0]]}',
    b'{"entity":"mower","sensor":"range","time":5.0,"value":3.0,"id":"caf\xc3\xa9"}',
)
numbers = st.one_of(
    st.floats(),
    st.integers(),
    st.sampled_from([2**53 + 1, 2**63, 2**64, 10**25, 10**400, -(10**400), 253402300799, 253402300800]),
)
scalars = st.one_of(numbers, st.none(), st.booleans(), st.text(max_size=3))
names = st.one_of(st.from_regex(r"[A-Za-z0-9._:/@+-]{1,130}", fullmatch=True), st.text(max_size=3), scalars)
fields: dict[str, st.SearchStrategy[Any]] = {
    "entity": names,
    "sensor": names,
    "time": scalars,
    "value": st.one_of(scalars, st.lists(scalars, max_size=3), st.lists(numbers, min_size=63, max_size=66)),
    "id": st.one_of(
        st.text(max_size=4), st.sampled_from(["a" * 128, "a" * 129, "\u202e", " ", "\x7f"]), scalars
    ),
    "standard_deviation": st.one_of(scalars, st.lists(numbers, max_size=2)),
    "more": scalars,
}
sound = {
    "entity": st.just("mower"),
    "sensor": st.just("range"),
    "time": st.floats(-6e10, 2e11),
    "value": st.floats(allow_nan=False, allow_infinity=False),
}


def check(raw: bytes) -> None:
    """The two readings of the message agree."""
    found = plain_observation(raw)
    try:
        expected = parse(Observation, raw)
    except Unusable:
        assert found is None, raw
        return
    if found is not None:
        assert (expected.standard_deviation, expected.covariance) == (None, None)
        for name in ("entity", "sensor", "time", "values", "id"):
            assert getattr(found, name) == getattr(expected, name), (name, raw)


@pytest.mark.parametrize("raw", SOUND)
def test_plain_observations_are_decoded_fast(raw: bytes) -> None:
    assert plain_observation(raw) is not None
    check(raw)


@pytest.mark.parametrize("raw", OTHERS)
def test_other_sound_observations_are_left_to_the_schema(raw: bytes) -> None:
    assert plain_observation(raw) is None
    parse(Observation, raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"entity":"b","entity":"a","sensor":"s","time":1,"value":1}',
        b'{"ent\\u0069ty":"a","sensor":"s","time":1,"value":1}',
        b'{"entity":"\\ud800","sensor":"s","time":1,"value":1}',
        b'{"entity":"a\\n","sensor":"s","time":1,"value":1}',
        b'{"entity":"a","sensor":"s","time":1,"value":-0}',
        b'{"entity":"a","sensor":"s","time":1,"value":1e-400}',
        b'{"entity":"a","sensor":"s","time":1,"value":[]}',
        b'{"entity":"a","sensor":"s","time":1,"value":1}' + b" " * MOST_BYTES,
        b'\xef\xbb\xbf{"entity":"a","sensor":"s","time":1,"value":1}',
        b'["a","s",1,1]',
        b"[" * 1000,
        b"",
    ],
)
def test_the_corners_of_json_are_read_as_the_schema_reads_them(raw: bytes) -> None:
    check(raw)


@given(st.randoms(use_true_random=False))
def test_no_hostile_message_is_taken_that_the_schema_refuses(random: Random) -> None:
    for _ in range(20):
        check(mutant(random.choice(SOUND + OTHERS), SOUND + OTHERS, random))


@given(
    st.fixed_dictionaries(sound, optional={"id": st.text(max_size=4)}),
    st.dictionaries(st.sampled_from(list(fields)), st.none(), max_size=3),
    st.sets(st.sampled_from(list(fields)), max_size=1),
    st.booleans(),
    st.data(),
)
@example({"entity": "a", "sensor": "b", "time": 1, "value": 10**309}, {}, set(), True, None)
def test_fields_of_any_kind_are_judged_alike(
    content: dict[str, Any], changed: dict[str, None], missing: set[str], ascii: bool, data: Any
) -> None:
    content = content | {name: data.draw(fields[name]) for name in changed}
    kept = {name: value for name, value in content.items() if name not in missing}
    check(json.dumps(kept, ensure_ascii=ascii).encode(errors="surrogatepass"))
