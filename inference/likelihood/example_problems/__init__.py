"""Problems that ship: a radiation source seen by counters, and a detector with misses and false alarms.

Both are sensors that no residual describes: `beliefstream.inference.likelihood.problems` says what a problem has.
Their likelihoods are known. Beside them are likelihoods that were learned from the simulators alone, each with a card:
a definition that names ``"weights": "RadiationSource.safetensors"`` takes the learned one.
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
    ranges: ClassVar[Mapping[str, object]] = {
        "x": (-25, 25),
        "y": (-25, 25),
        "strength": (20, 8000),
        "counter_x": (-12, 12),
        "counter_y": (-12, 12),
        "height": 1,
        "background": 5,
        "efficiency": 1,
        "exposure": 10,
    }

    def features(self, parameters: Numbers, context: Numbers) -> Numbers:
        """What a learned likelihood is told: logarithms of the distance and of the strength."""
        return {
            "distance": self.squared_distance(parameters, context).log() / 2,
            "strength": parameters["strength"].log(),
        }

    def squared_distance(self, parameters: Numbers, context: Numbers) -> Tensor:
        """Square of the distance between source and counter."""
        squared = (parameters["x"] - context["counter_x"]).square()
        return squared + (parameters["y"] - context["counter_y"]).square() + context["height"].square()

    def mean(self, parameters: Numbers, context: Numbers) -> Tensor:
        """Expected count."""
        squared = self.squared_distance(parameters, context)
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
    ranges: ClassVar[Mapping[str, object]] = {
        "x": (-20, 20),
        "y": (-20, 20),
        "detector_x": (-15, 15),
        "detector_y": (-15, 15),
        "reach": (2, 8),
        "hit": (0.6, 0.99),
        "false_alarm": (0.01, 0.2),
    }

    def features(self, parameters: Numbers, context: Numbers) -> Numbers:
        """What a learned likelihood is told: the distance in reaches, and both rates."""
        distance = (self.squared_reaches(parameters, context) + 0.01).sqrt()
        return {"distance": distance, "hit": context["hit"], "false_alarm": context["false_alarm"]}

    def squared_reaches(self, parameters: Numbers, context: Numbers) -> Tensor:
        """Square of the distance between entity and detector, in reaches."""
        squared = (parameters["x"] - context["detector_x"]).square()
        squared = squared + (parameters["y"] - context["detector_y"]).square()
        return squared / context["reach"].square()

    def probability(self, parameters: Numbers, context: Numbers) -> Tensor:
        """Probability of a detection."""
        near = torch.exp(-self.squared_reaches(parameters, context) / 2)
        return context["false_alarm"] + (context["hit"] - context["false_alarm"]) * near

    def simulate(self, parameters: Numbers, context: Numbers, generator: torch.Generator) -> Numbers:
        return {"detected": torch.bernoulli(self.probability(parameters, context), generator=generator)}

    def log_likelihood(self, data: Numbers, parameters: Numbers, context: Numbers) -> Tensor:
        probability, seen = self.probability(parameters, context), data["detected"]
        found: Tensor = torch.special.xlogy(seen, probability) + torch.special.xlog1py(1 - seen, -probability)
        return found
