"""Problems that ship: a radiation source seen by counters, and a detector with misses and false alarms.

Both are sensors that no residual describes: `beliefstream.inference.likelihood.problems` says what a problem has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from beliefstream.inference.likelihood.problems import Domain, Numbers, Support


class RadiationSource:
    """Counts of a radiation source at (x, y) on the ground, by a counter at a known place.

    The count is Poisson with the mean ``exposure · (background + strength · efficiency / (r² + height²))``: r is the
    distance on the ground in metres, exposure is in seconds, and background and strength are counts a second, of the
    counter alone and of the source at one metre.
    """

    parameters: ClassVar[Mapping[str, Support]] = {"x": "real", "y": "real", "strength": "positive"}
    data: ClassVar[Mapping[str, Domain]] = {"count": "count"}
    context: ClassVar[tuple[str, ...]] = (
        "counter_x",
        "counter_y",
        "height",
        "background",
        "efficiency",
        "exposure",
    )

    def mean(self, parameters: Numbers, context: Numbers) -> Tensor:
        """Expected count."""
        squared = (parameters["x"] - context["counter_x"]).square()
        squared = squared + (parameters["y"] - context["counter_y"]).square() + context["height"].square()
        rate = context["background"] + parameters["strength"] * context["efficiency"] / squared
        return context["exposure"] * rate

    def simulate(self, parameters: Numbers, context: Numbers, generator: torch.Generator) -> Numbers:
        return {"count": torch.poisson(self.mean(parameters, context), generator=generator)}

    def log_likelihood(self, data: Numbers, parameters: Numbers, context: Numbers) -> Tensor:
        mean, count = self.mean(parameters, context), data["count"]
        found: Tensor = torch.special.xlogy(count, mean) - mean - torch.lgamma(count + 1)
        return found


class ProximityDetector:
    """Detections of an entity at (x, y) by a detector at a known place, with misses and false alarms.

    Beside the detector the probability of a detection is ``hit``; it falls to ``false_alarm`` with a Gaussian of the
    distance, of width ``reach`` in metres.
    """

    parameters: ClassVar[Mapping[str, Support]] = {"x": "real", "y": "real"}
    data: ClassVar[Mapping[str, Domain]] = {"detected": "binary"}
    context: ClassVar[tuple[str, ...]] = ("detector_x", "detector_y", "reach", "hit", "false_alarm")

    def probability(self, parameters: Numbers, context: Numbers) -> Tensor:
        """Probability of a detection."""
        squared = (parameters["x"] - context["detector_x"]).square()
        squared = squared + (parameters["y"] - context["detector_y"]).square()
        near = torch.exp(-squared / (2 * context["reach"].square()))
        return context["false_alarm"] + (context["hit"] - context["false_alarm"]) * near

    def simulate(self, parameters: Numbers, context: Numbers, generator: torch.Generator) -> Numbers:
        return {"detected": torch.bernoulli(self.probability(parameters, context), generator=generator)}

    def log_likelihood(self, data: Numbers, parameters: Numbers, context: Numbers) -> Tensor:
        probability, seen = self.probability(parameters, context), data["detected"]
        found: Tensor = torch.special.xlogy(seen, probability) + torch.special.xlog1py(1 - seen, -probability)
        return found
