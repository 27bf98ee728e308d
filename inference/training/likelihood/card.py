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

_CARD = """\
# {name}

The likelihood of `{problem}`, learned from its simulator.

| | |
|---|---|
{facts}

## Range of the training

Beyond it, the likelihood keeps its value at the edge, and posteriors say `outside_training`.

| number | | lowest | highest |
|---|---|---:|---:|
{ranges}

## Calibration

On {held_out:,} new simulations{longest} from that range, at {places} places, and of {ranked} posteriors on {points}
points each.

| figure | value |
|---|---|
| log score: mean of −log q of the data | {score:.4f} ± {score_error:.4f} nats |
| divergence of the learned from the simulated data, an observation | {divergence:.5f} ± {divergence_error:.5f} nats |
| the same, worst hundredth of the places | {worst:.4f} nats |
| expected calibration error of the data | {calibration:.4f} |
| rank error of the parameters (simulation-based calibration) | {rank:.4f} |

By chance alone, the fourth is about {calibration_floor:.3f}, and the fifth about {rank_floor:.3f}.
The divergence goes into `likelihood_error` and `accumulated_error` of posteriors.

## Command

    {command}

The file has the sha256 digest `{digest}`.
"""


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
    return _CARD.format(
        name=name,
        problem=described["problem"],
        facts=rows(described),
        ranges="\n".join(
            ranges(likelihood.names, likelihood.trained_on, likelihood.lowest, likelihood.highest)
        ),
        held_out=HELD_OUT,
        places=measured.places,
        longest="" if likelihood.earlier is None else " of the longest report",
        ranked=RANKED,
        points=DRAWS + 1,
        score=measured.log_score[0],
        score_error=measured.log_score[1],
        divergence=measured.divergence[0],
        divergence_error=measured.divergence[1],
        worst=measured.worst_divergence,
        calibration=measured.calibration_error,
        rank=measured.rank_error,
        calibration_floor=_floor(HELD_OUT),
        rank_floor=_floor(RANKED),
        command=command,
        digest=digest,
    )


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
