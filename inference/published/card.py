"""Card of a published form: what was trained, how long it took, and how good its answers are on new problems."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from torch import Tensor

from beliefstream.inference.mixtures.coverage import REGIONS, inside, levels
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.published.check import POINTS, checked, weighed
from beliefstream.inference.published.network import PublishedForm
from beliefstream.inference.published.train import HELD_OUT, Training
from beliefstream.inference.training.card import hardware, range_rows, ranges, rows
from beliefstream.inference.update.check.importance import Seed, quality

PROBLEMS, FEW = 200, 4  # of a card, and of what is not timed


@dataclass(frozen=True)
class Score:
    """Figures of answers of `components` components on new problems.

    Attributes:
        log_score: mean of −log density of the true parameters' coordinates in nats, and its standard error.
        inside: share of them within the regions of `REGIONS`.
        divergence: mean and median of KL(exact ‖ answer) in nats; None if unknown.
        milliseconds: of processor time an answer, all in one batch; None for priors.
    """

    answer: str
    components: int
    log_score: tuple[float, float]
    inside: tuple[float, ...]
    divergence: tuple[float, float] | None
    milliseconds: float | None = None

    @classmethod
    def of(
        cls, answer: str, count: int, log_density: Tensor, level: Tensor | None, divergence: Tensor | None
    ) -> Score:
        """Return the figures of log densities, levels and divergences, each ``(B,)``."""
        mean = float(-log_density.mean()), float(log_density.std() / math.sqrt(len(log_density)))
        shares = [] if level is None else [float(inside(level, region).mean()) for region in REGIONS]
        away = None if divergence is None else (float(divergence.mean()), float(divergence.median()))
        return cls(answer, count, mean, tuple(shares), away)


def scores(training: Training) -> list[Score]:
    """Score the prior, the network alone, and checked answers where there is a likelihood."""
    counts = sorted(set(training.plan.tokens))
    _scores(training, counts[0], FEW)  # the first call compiles, and is not timed
    return [score for count in counts for score in _scores(training, count, PROBLEMS)]


def _scores(training: Training, count: int, problems: int) -> list[Score]:
    form, function = training.form, training.function
    priors, numbers, truth = training.problems(problems, count, training.generator(HELD_OUT - count))
    generator = training.generator(HELD_OUT + 1)

    def of(name: str, answer: GaussianMixture, divergence: Tensor | None, seconds: float) -> Score:
        at = answer.log_density(truth[:, None])[:, 0]
        score = Score.of(name, count, at, levels(answer, truth, generator), divergence)
        return replace(score, milliseconds=1000 * seconds / problems)

    prior = Score.of("prior", count, priors.log_density(truth[:, None])[:, 0], None, None)
    begin = time.process_time()
    alone = form.answer(priors, numbers, count)
    answered = time.process_time()
    if not function.has_likelihood:
        return [prior, of("network alone", alone, None, answered - begin)]
    best = checked(priors, function, numbers, alone)
    refined = time.process_time()
    measured = quality(weighed(priors, function, numbers, alone, POINTS, Seed.PUBLISHED_CHECK))
    return [
        prior,
        of("network alone", alone, measured.divergence, answered - begin),
        of("checked and refined", best.answer, best.quality.divergence, refined - begin),
    ]


def facts(training: Training) -> dict[str, str]:
    """Return what was trained, by name."""
    plan, form = training.plan, training.form
    priors = "mixtures" if form.families is None else ", ".join(form.families.names)
    targets = "weighted posterior points" if training.function.has_likelihood else "the true parameters"
    return {
        "problem": plan.problem,
        "priors": priors,
        "targets": targets,
        "network": (
            f"width {plan.width}, {plan.layers} layers, {plan.heads} heads, {plan.hidden} hidden units, "
            f"{sum(part.numel() for part in form.parameters()):,} parameters"
        ),
        "seed": str(plan.seed),
        "problems": f"{sum(plan.problems(plan.count(step)) for step in range(training.step)):,} "
        f"in {training.step:,} steps",
        "components": ", ".join(map(str, sorted(set(plan.tokens)))),
        "optimiser": f"Adam, rate {plan.learning_rate:g} after {plan.warm_up} steps of warm-up, cosine",
        "hardware": hardware(str(training.device)),
        "wall time": f"{training.seconds:.0f} s",
    }


def card(training: Training, scored: list[Score], command: str, digest: str) -> str:
    """Return the card in Markdown."""
    problem, likelihood = training.plan.problem, training.function.has_likelihood
    divergence = ["KL, mean", "KL, median"] if likelihood else []
    columns = ["−log density of the truth", *divergence, *(f"{region:.0%} region" for region in REGIONS)]
    measure = (
        "KL(exact ‖ answer) is in nats, on importance points."
        if likelihood
        else "Without a likelihood, the divergence is unknown, and answers are `unchecked`."
    )
    scores = "\n".join(_row(score, likelihood) for score in scored)
    return f"""\
# {problem.partition(":")[2]}

The published form of the Distribution Transformer for `{problem}`: its posterior by one pass.

| | |
|---|---|
{rows(facts(training))}

## Range of the training

Beyond it, answers say `outside_training`.

| number | | lowest | highest |
|---|---|---:|---:|
{_ranges(training.form)}

## Accuracy

On {PROBLEMS} new problems. {measure} Times are of one batch on one core.

| answer | K | {" | ".join(columns)} | ms |
|---|---:|{"---:|" * (len(columns) + 1)}
{scores}

## Command

    {command}

The file has the sha256 digest `{digest}`.
"""


def _row(score: Score, likelihood: bool) -> str:
    cells = [score.answer, str(score.components), f"{score.log_score[0]:.3f} ± {score.log_score[1]:.3f}"]
    if likelihood:
        cells += ["", ""] if score.divergence is None else [f"{each:.4f}" for each in score.divergence]
    cells += [f"{share:.3f}" for share in score.inside] or [""] * len(REGIONS)
    cells.append("" if score.milliseconds is None else f"{score.milliseconds:.2f}")
    return f"| {' | '.join(cells)} |"


def _ranges(form: PublishedForm) -> str:
    if form.families is None:
        return ranges(form)
    labels = [
        (name, f"{which} number of its {family} prior")
        for (name, _), family in zip(form.names.parameters, form.families.names, strict=True)
        for which in ("first", "second")
    ]
    return ranges(form) + "\n" + range_rows(labels, form.families.low.exp(), form.families.high.exp())
