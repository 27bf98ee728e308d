"""Hostile versions of sound messages: of their bytes, and of what their JSON says."""

from __future__ import annotations

import json
from random import Random
from typing import Any

# what has broken parsers: beyond a type's range, not a number, not text, without an end, seen by nobody
TOKENS = (
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1e-999", b"-0.0", b"9" * 400),
    *(
        b"0x10",
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"null",
        b"true",
        b"{}",
        b"[]",
        b"[" * 300,
        b'{"a":' * 300,
        b"[" * 5000,
    ),
    *(
        b'""',
        b'"\\ud800"',
        b'"\\u0000"',
        b'"\\u001b[2J"',
        b'"\\u202e"',
        b'"*"',
        b"\\",
        b'"',
        b",",
        b":",
        b"//",
    ),
    *(b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\xf0\x9f\x92\xa9", b"\xef\xbb\xbf", b"\r\n", b"\x1b[2J"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -0.0, -1, 1, 2, 3.5, 1e-320, 1e-300, 1e154, 1e300, -1e300),
    *(2**53, 2**63, 2**64, -(2**63), 10**25),
    *(
        "",
        "x",
        "*",
        "nan",
        "Infinity",
        "a" * 129,
        "a\nb",
        "\x1b[31m",
        "\u202ereversed",
        "é",
        "\u2028",
        "%s%n",
    ),
    *("../../etc", "{0.__class__}", "2026-01-31T12:00:00Z", "0000-00-00T00:00:00Z", "9999-12-31T23:59:60Z"),
    *("range", "own", "control", "linear", "replace"),
    *(
        [],
        [[]],
        [[[]]],
        [None],
        [0],
        [1, 2],
        [1, 2, 3],
        [0.0] * 65,
        ["x"],
        ["x", "x"],
        [[1e300]],
        [[0.0]],
        [[1.0]],
    ),
    *([[1.0, 2.0], [2.0, 1.0]], {}, {"": 1}, {"x": 1}, {"kind": "uniform"}, {"name": "x", "unit": "m"}),
    *({"z": {"z": {"z": []}}}, {"weights": [1], "means": [[0]], "covariances": [[[1]]]}),
)
FIELDS = (
    "entity",
    "sensor",
    "kind",
    "time",
    "value",
    "mixture",
    "weights",
    "id",
    "x",
    "",
    "\x1b[2J",
    "__class__",
)


def mutant(seed: bytes, others: tuple[bytes, ...], random: Random) -> bytes:
    """One or several changes to `seed`, some with parts of `others`."""
    if random.random() < 0.6:
        try:
            content = json.loads(seed)
        except ValueError:
            pass
        else:
            for _ in range(random.choice((1, 1, 1, 2, 4))):
                content = _changed(content, random, others)
            seed = json.dumps(content, ensure_ascii=random.random() < 0.5).encode(errors="surrogatepass")
            if random.random() < 0.8:
                return seed
    for _ in range(random.choice((1, 1, 2, 8))):
        seed = _spoiled(seed, others, random)
    return seed


def _changed(content: Any, random: Random, others: tuple[bytes, ...]) -> Any:
    """The content with one node changed: replaced, removed, repeated, moved elsewhere, or nested."""
    if not isinstance(content, (dict, list)) or not content or random.random() < 0.1:
        return _value(random, others)
    places: list[Any] = list(content) if isinstance(content, dict) else list(range(len(content)))
    place = random.choice(places)
    inner = content[place]
    if isinstance(inner, (dict, list)) and inner and random.random() < 0.75:
        content[place] = _changed(inner, random, others)
        return content
    action = random.randrange(6)
    if action == 0:
        del content[place]
    elif action == 1:
        value = _value(random, others)
        if isinstance(content, dict):
            content[random.choice(FIELDS)] = value
        else:
            content.insert(place, value)
    elif action == 2 and isinstance(content, list):
        content.extend(content[place:] * random.choice((1, 2, 17)))
    elif action == 3:
        content[place] = [inner]
    elif action == 4 and isinstance(inner, (int, float)) and not isinstance(inner, bool):
        content[place] = inner * random.choice((-1, 0, 1e-200, 1e200, 1e9, 0.5, 1 + 1e-7))
    else:
        content[place] = _value(random, others)
    return content


def _value(random: Random, others: tuple[bytes, ...]) -> Any:
    if others and random.random() < 0.15:
        try:
            return json.loads(random.choice(others))
        except ValueError:
            pass
    return json.loads(json.dumps(random.choice(VALUES)))  # a copy: what is changed next is not the list above


def _spoiled(raw: bytes, others: tuple[bytes, ...], random: Random) -> bytes:
    start = random.randrange(len(raw) + 1)
    end = min(len(raw), start + random.choice((0, 1, 1, 2, 4, 8, 64)))
    action = random.randrange(6)
    if action == 0:
        return raw[:start] + raw[end:]
    if action == 1:
        return raw[:start]
    if action == 2:
        return raw[:start] + random.choice(TOKENS) + raw[end:]
    if action == 3:
        return raw[:start] + random.randbytes(end - start) + raw[end:]
    if action == 4:
        return raw[:end] + raw[start:end] * random.choice((1, 2, 50)) + raw[end:]
    other = random.choice(others) if others else raw
    cut = random.randrange(len(other) + 1)
    return raw[:start] + other[cut : cut + random.choice((1, 8, 64))] + raw[end:]
