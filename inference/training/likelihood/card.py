"""Card of a learned likelihood: what was simulated, how long it took, and how good it is on new simulations."""

from __future__ import annotations

import math

from beliefstream.inference.likelihood.learned.laws import Classes, Law, Steps
from beliefstream.inference.likelihood.learned.network import LearnedLikelihood
from beliefstream.inference.training.card import hardware, ranges, rows
from beliefstream.inference.training.likelihood.calibration import (
    DRAWS,
    HELD_OUT,
    RANKED,
    Calibration,
)
from beliefstream.inference.training.likelihood.train import Training


def facts(training: Training) -> dict[str, str]:
    """Return what was trained, by name."""
    plan, likelihood = training.plan, training.likelihood
    parameters = sum(part.numel() for part in likelihood.parameters())
    laws = zip(likelihood.names.data, likelihood.laws, strict=True)
    rows = likelihood.names.rows
    report = {} if likelihood.earlier is None else {"report": f"a {rows.kind} of 1 to {rows.most} rows"}
    features = {} if likelihood.features is None else {"features": str(len(likelihood.known_low))}
    return {
        "problem": plan.problem,
        **report,
        **features,
        "laws": ", ".join(f"{name}: {_shown(law)}" for (name, _), law in laws),
        "network": f"{plan.layers + 1} hidden layers of {plan.width} units, {parameters:,} parameters",
        "seed": str(plan.seed),
        "simulations": f"{training.step * plan.batch:,} in {training.step:,} steps",
        "optimiser": f"Adam, rate {plan.learning_rate:g} after {plan.warm_up} steps of warm-up, cosine",
        "hardware": hardware(str(training.device)),
        "wall time": f"{training.seconds:.0f} s",
    }


def card(
    name: str,
    described: dict[str, str],
    likelihood: LearnedLikelihood,
    measured: Calibration,
    command: str,
    digest: str,
) -> str:
    """Return the card in Markdown; `described` is from `facts`."""
    (score, error), (divergence, spread) = measured.log_score, measured.divergence
    longest = "" if likelihood.earlier is None else " of the longest report"
    return f"""\
# {name}

The likelihood of `{described["problem"]}`, learned from its simulator.

| | |
|---|---|
{rows(described)}

## Range of the training

Beyond it, the likelihood keeps its value at the edge, and posteriors say `outside_training`.

| number | | lowest | highest |
|---|---|---:|---:|
{ranges(likelihood)}

## Calibration

On {HELD_OUT:,} new simulations{longest} from that range, at {measured.places} places, and of {RANKED} posteriors
on {DRAWS + 1} points each.

| figure | value |
|---|---|
| log score: mean of −log q of the data | {score:.4f} ± {error:.4f} nats |
| divergence of the learned from the simulated data, an observation | {divergence:.5f} ± {spread:.5f} nats |
| the same, worst hundredth of the places | {measured.worst_divergence:.4f} nats |
| expected calibration error of the data | {measured.calibration_error:.4f} |
| rank error of the parameters (simulation-based calibration) | {measured.rank_error:.4f} |

By chance alone, the fourth is about {_floor(HELD_OUT):.3f}, and the fifth about {_floor(RANKED):.3f}.
The divergence goes into `likelihood_error` and `accumulated_error` of posteriors.

## Command

    {command}

The file has the sha256 digest `{digest}`.
"""


def _shown(law: Law) -> str:
    if isinstance(law, Classes):
        return f"probabilities of {len(law.levels)} values" + (
            " and of all larger counts" if law.tail else ""
        )
    if isinstance(law, Steps):
        return f"probabilities of {len(law.levels) or 'all'} {'values' if law.levels else 'counts'}"
    described = law.describe()["atoms"]
    return "density" + (
        f" beside the values {', '.join(f'{atom:g}' for atom in described)}" if described else ""
    )


def _floor(count: int) -> float:
    """Mean difference between a level and a share of `count` draws, of a right law: √(2/π) σ, averaged over levels."""
    levels = [i / 20 for i in range(1, 20)]
    return sum(math.sqrt(2 / math.pi * level * (1 - level) / count) for level in levels) / len(levels)
