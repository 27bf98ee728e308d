"""Verdicts on a sensor by sequential tests with a stated rate of false alarms.

**Test.** For each fault there is an e-process from each block of the window on. That is a non-negative process that
starts at one, and whose expectation stays at most one while the sensor has no such fault beyond what is tolerated. The
sum of the e-processes of all starts is a Shiryaev-Roberts e-detector. An alarm at the threshold ``c`` then has an
average run length of at least ``c`` blocks, however often one looks: Shin, Ramdas and Rinaldo, "E-detectors: a
nonparametric framework for sequential change detection" (New England Journal of Statistics in Data Science, 2023). Of
``m`` tests of a sensor each has the threshold ``m c``, so that ``c`` holds for the sensor as a whole.

**E-processes.** For a bias it is the one-sided normal mixture of Robbins, "Statistical methods related to the law of
the iterated logarithm" (Annals of Mathematical Statistics 41, 1970). Scores beyond the tolerated bias are averaged over
a half-normal bias of one stated standard deviation. For noise and outliers it is the mean of some likelihood ratios
against the tolerated value. All follow from sums, so those of several partitions add.

**Errors that last.** The means of independent errors over blocks of the window vary as their number says, whatever
their noise. Means that vary more are of errors that stay alike: a fault is then called by that. It is no test of its
own, so that it makes no false alarms.

**Silence.** Reports of a healthy sensor are taken to be at least as regular as a Poisson process of their mean rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from beliefstream.inference.tracking.health.columns import NOISIER, OUTLYING, QUIETER, WIDTH, Array, Sum
from beliefstream.inference.tracking.health.sums import SLIGHTLY_NOISIER
from beliefstream.inference.tracking.health.windows import BLOCKS, Window

__all__ = [
    "FALSE_ALARM_WINDOWS",
    "FAULTS",
    "Assessment",
    "ChannelHealth",
    "Fault",
    "Verdict",
    "allowed_silence",
    "assess",
    "judge_together",
]

FALSE_ALARM_WINDOWS = 4096
"""Mean time between false alarms of a healthy sensor, at least, in windows of event time."""
SLIGHT_BIAS = 0.25  # stated standard deviations that still count as healthy
LONGER_GAPS = 3.0  # silence is also longer than the longest gap, by this factor
LEAST_REPORTS = 8  # before silence can be judged
BENDING = ("biased", "noisier", "outliers")  # verdicts on sensors that bend beliefs
BY_CHANCE = 3.0  # deviations by which blocks may differ more than independent errors make them
LEAST_SCALE = 0.05  # of noise that can be told from none
FEWEST = 1e-12

Verdict = Literal[
    "healthy", "biased", "noisier", "quieter", "outliers", "lasting", "silent", "unclear", "unknown"
]
"""`lasting`: a fault whose errors stay alike. `unclear`: another sensor may be the cause, see `judge_together`.
`unknown`: no observation was judged.
"""
Fault = Literal["high", "low", "noisier", "quieter", "outliers"]
FAULTS: tuple[Fault, ...] = ("high", "low", "noisier", "quieter", "outliers")
_VERDICTS: dict[Fault, Verdict] = {
    "high": "biased",
    "low": "biased",
    "noisier": "noisier",
    "quieter": "quieter",
    "outliers": "outliers",
}


@dataclass(frozen=True)
class ChannelHealth:
    """Health of one number that a sensor reports.

    Attributes:
        verdict: of the strongest fault beyond its threshold.
        count: observations judged in the window.
        informative: of how many observations with an exactly known expected value they tell as much about a bias.
        bias, bias_deviation: in the reported unit; NaN if nothing is known.
        noise_scale, noise_scale_deviation: noise over stated noise.
        outlier_share, stated_share: mean posterior probability of an outlier, and the stated probability.
        excess: mean of the log evidence minus its expectation, in nats; negative if observations fit worse than stated.
        gain, gain_deviation: reported change for a change of one in the predicted value; 1 for a right scale; NaN if
            nothing is known.
        level: mean predicted value, in the reported unit.
        since: event time from which the estimates are; the start of the fault, if there is one.
        evidence: logarithm of the e-detector of each fault, in nats.
    """

    verdict: Verdict
    count: float
    informative: float
    bias: float
    bias_deviation: float
    noise_scale: float
    noise_scale_deviation: float
    outlier_share: float
    stated_share: float
    excess: float
    gain: float
    gain_deviation: float
    level: float
    since: float
    evidence: dict[Fault, float]


@dataclass(frozen=True)
class Assessment:
    """Health of a sensor.

    Attributes:
        verdict: of its worst channel, or `silent`.
        channels: of each number that it reports.
        newest: event time of the newest observation.
        silence: seconds since then.
        threshold: evidence in nats that makes an alarm.
        bent_by: sensor that may be the cause of an `unclear` verdict.
    """

    verdict: Verdict
    channels: tuple[ChannelHealth, ...]
    newest: float
    silence: float
    threshold: float
    bent_by: str = ""

    @property
    def evidence_each(self) -> float:
        """Evidence of the strongest fault in nats, per observation judged."""
        return max(max(each.evidence.values()) / max(each.count, 1.0) for each in self.channels)


def assess(window: Window, now: float | None = None) -> Assessment:
    """Return the verdict on a sensor.

    Args:
        window: the sensor's sums, from all partitions.
        now: event time, in seconds; None for the time of its newest observation, at which it is not silent.
    """
    threshold = math.log(FALSE_ALARM_WINDOWS * BLOCKS * len(FAULTS) * max(window.channels, 1))
    starts, sums = _since_each_start(window)
    channels = tuple(
        _channel(starts, sums[:, number], threshold, window.resolution) for number in range(window.channels)
    )
    silence = max(0.0, now - window.newest) if now is not None and math.isfinite(window.newest) else 0.0
    if silence > allowed_silence(window):
        return Assessment("silent", channels, window.newest, silence, threshold)
    judged = [channel for channel in channels if channel.count]
    faulty = [channel for channel in judged if channel.verdict != "healthy"]
    verdict: Verdict = "healthy" if judged else "unknown"
    if faulty:
        verdict = max(faulty, key=lambda channel: max(channel.evidence.values())).verdict
    return Assessment(verdict, channels, window.newest, silence, threshold)


def judge_together(
    assessments: Mapping[str, Assessment], entities: Mapping[str, int]
) -> dict[str, Assessment]:
    """Return the verdicts on sensors that may observe the same entities.

    A belief follows a faulty sensor in part, so the others of its entities may seem faulty too. Of the faulty ones that
    share entities, those with less evidence per observation than another are `unclear` until that one is corrected. A
    sensor that is quieter than stated bends no belief.

    Args:
        assessments: of each sensor alone.
        entities: bits of the entities that each observes.
    """
    faulty = {name: each.evidence_each for name, each in assessments.items() if each.verdict in BENDING}
    judged = dict(assessments)
    for name, evidence in faulty.items():
        others = [other for other in faulty if other != name and entities[other] & entities[name]]
        worst = max(others, key=lambda other: faulty[other], default=name)
        if faulty[worst] > evidence:
            judged[name] = replace(assessments[name], verdict="unclear", bent_by=worst)
    return judged


def allowed_silence(window: Window) -> float:
    """Return the seconds after its newest observation from which a sensor counts as silent; infinite if unknown."""
    count = float(window.total()[:, Sum.REPORTS].max(initial=0.0))
    span = window.newest - max(window.first, window.newest - window.seconds)
    if count < LEAST_REPORTS or not span > 0:
        return math.inf
    by_chance = math.log(FALSE_ALARM_WINDOWS * BLOCKS) * span / (count - 1)
    return max(by_chance, LONGER_GAPS * window.longest_gap) + window.resolution


def _since_each_start(window: Window) -> tuple[Array, Array]:
    """Return the starts of all blocks ``(S,)``, in numbers, and the sums from each on, ``(S, channels, WIDTH)``."""
    if not window.blocks:
        return np.zeros(1), np.zeros((1, window.channels, WIDTH))
    starts = np.array([block.start for block in window.blocks], dtype=float)
    sums = np.stack([block.sums for block in window.blocks])
    sums = np.cumsum(sums[::-1], 0)[::-1]
    first = np.concatenate([[True], starts[1:] != starts[:-1]])
    return starts[first], sums[first]


def _channel(starts: Array, sums: Array, threshold: float, resolution: float) -> ChannelHealth:
    """Judge one channel; `sums` ``(S, WIDTH)`` from each start on."""
    processes = {fault: _PROCESSES[fault](sums) for fault in FAULTS}
    evidence = {fault: float(np.logaddexp.reduce(logs)) for fault, logs in processes.items()}
    whole = _estimates(sums[0])
    alarms = [fault for fault in FAULTS if evidence[fault] >= threshold]
    verdict: Verdict = "healthy" if whole.count else "unknown"
    since, shown = 0, whole
    for fault in sorted(alarms, key=lambda each: -evidence[each]):
        place = int(np.argmax(processes[fault]))
        estimates = _estimates(sums[place])
        is_noisy = estimates.noise_scale >= SLIGHTLY_NOISIER
        if fault == "noisier" and not is_noisy:
            continue  # the bias explains it
        if fault == "outliers" and "noisier" in alarms and is_noisy:
            continue  # the far values of wide noise; among true outliers the inliers have the stated noise
        verdict, since, shown = _VERDICTS[fault], place, estimates
        if _lasts(sums[place:]):
            verdict = "lasting"
        break
    return replace(
        shown,
        verdict=verdict,
        count=whole.count,
        since=float(starts[since]) * resolution,
        evidence=evidence,
    )


def _lasts(sums: Array) -> bool:
    """Whether the means of scores over blocks differ more than those of independent errors.

    The sum of the squared differences from their common mean, over the variance of a score, is then about χ²; its cube
    root is about normal (Wilson and Hilferty, "The distribution of chi-square", PNAS 17, 1931).

    Args:
        sums: from the start of each block on, ``(S, WIDTH)``.
    """
    blocks = -np.diff(sums, axis=0, append=np.zeros((1, WIDTH)))
    blocks = blocks[blocks[:, Sum.INFORMATION] > 0]
    freedom = len(blocks) - 1
    if freedom < 1:
        return False
    scores, information = blocks[:, Sum.SCORE], blocks[:, Sum.INFORMATION]
    mean = scores.sum() / information.sum()
    variance = max(1 + blocks[:, Sum.VARIANCE_SCORE].sum() / information.sum(), LEAST_SCALE**2)
    ratio = float(((scores - mean * information) ** 2 / information).sum()) / variance / freedom
    spread = 2 / (9 * freedom)
    return bool(ratio ** (1 / 3) > 1 - spread + BY_CHANCE * math.sqrt(spread))


def _estimates(sums: Array) -> ChannelHealth:
    count, information = sums[Sum.COUNT], sums[Sum.UNIT_INFORMATION]
    known = information > 0
    bias = sums[Sum.UNIT_SCORE] / information if known else math.nan
    weight = sums[Sum.VARIANCE_INFORMATION]
    relative = sums[Sum.SCORE] / max(sums[Sum.INFORMATION], FEWEST)
    excess = sums[Sum.VARIANCE_SCORE] / weight - relative**2 if weight > 0 else 0.0
    scale = math.sqrt(max(1 + excess, 0.0))
    square = 1 + sums[Sum.VARIANCE_SCORE] / max(sums[Sum.INFORMATION], FEWEST)
    return ChannelHealth(
        "healthy",
        float(count),
        float(sums[Sum.INFORMATION]),
        float(bias),
        float(information**-0.5) if known else math.nan,
        scale,
        # that of the squared scale is √(2 / information) times the mean square of the scores, if these are normal
        math.sqrt(0.5 / weight) * max(square, LEAST_SCALE) / max(scale, LEAST_SCALE)
        if weight > 0
        else math.nan,
        float(1 - sums[Sum.INLIERS] / count) if count else 0.0,
        float(sums[Sum.STATED] / count) if count else 0.0,
        float(sums[Sum.EXCESS] / count) if count else 0.0,
        *_gain(sums),
        float(sums[Sum.LEVEL] / information) if known else math.nan,
        -math.inf,
        {},
    )


def _gain(sums: Array) -> tuple[float, float]:
    """Slope and its deviation of a regression of reported on predicted values, weighted by what each tells."""
    weight = sums[Sum.UNIT_INFORMATION]
    if not weight > 0:
        return math.nan, math.nan
    level = sums[Sum.LEVEL] / weight
    spread = sums[Sum.LEVEL_SQUARE] - level * sums[Sum.LEVEL]
    if spread <= 1e-9 * sums[Sum.LEVEL_SQUARE]:
        return math.nan, math.nan
    slope = (sums[Sum.LEVEL_SCORE] - level * sums[Sum.UNIT_SCORE]) / spread
    return float(1 + slope), float(spread**-0.5)


def _bias(sums: Array, sign: float) -> Array:
    """Log of the e-process of a bias, from sums ``(S, WIDTH)``; noise beyond the stated one counts against it."""
    information, score = sums[:, Sum.INFORMATION], sign * sums[:, Sum.SCORE]
    usual = np.maximum(information, FEWEST)
    explained = score**2 / usual**2 * sums[:, Sum.VARIANCE_INFORMATION]
    noise = 1 + (sums[:, Sum.VARIANCE_SCORE] - explained) / usual
    beyond = (score - SLIGHT_BIAS * information) / np.sqrt(np.maximum(noise, 1.0))
    scaled = beyond / np.sqrt(1 + information)
    return np.asarray(
        math.log(2) - 0.5 * np.log1p(information) + 0.5 * scaled**2 + _log_normal_distribution(scaled)
    )


def _log_normal_distribution(values: Array) -> Array:
    """Log of the standard normal distribution function; its tail by the leading term."""
    return np.array([_log_tail(-value) for value in values.tolist()])


def _log_tail(value: float) -> float:
    if value < 30:
        return math.log(0.5 * math.erfc(value / math.sqrt(2)))
    return -0.5 * value**2 - math.log(value) - 0.5 * math.log(2 * math.pi)


def _mean_ratio(first: int, count: int) -> Callable[[Array], Array]:
    """Return the log of the mean of `count` likelihood ratios whose logarithms are in the columns from `first` on."""

    def process(sums: Array) -> Array:
        return np.asarray(np.logaddexp.reduce(sums[:, first : first + count], 1) - math.log(count))

    return process


_PROCESSES: dict[Fault, Callable[[Array], Array]] = {
    "high": lambda sums: _bias(sums, 1.0),
    "low": lambda sums: _bias(sums, -1.0),
    "noisier": _mean_ratio(Sum.NOISIER, len(NOISIER)),
    "quieter": _mean_ratio(Sum.QUIETER, len(QUIETER)),
    "outliers": _mean_ratio(Sum.OUTLYING, len(OUTLYING)),
}
