"""Definitions and messages that the tests send."""

from __future__ import annotations

import json

BEACON = json.dumps(
    {"sensor": "beacon-1", "kind": "range", "position": [0, 5], "standard_deviation": 0.3},
    separators=(",", ":"),
)
GPS = json.dumps({"sensor": "gps", "kind": "position", "standard_deviation": 2.0})
WALKER = json.dumps(
    {
        "entity": "*",
        "name": "walker",
        "coordinates": [{"name": "x", "unit": "m"}, {"name": "y", "unit": "m"}],
        "motion": {"kind": "random_walk", "spectral_density": 0.1},
        "prior": {"weights": [1], "means": [[0, 0]], "covariances": [[[100, 0], [0, 100]]]},
    }
)
