"""Report of the evaluation as JSON, by family and in total."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from research.evaluation.adversarial.run import Finding

DISHONEST = 0.5, 0.5  # divergence of at least the first (nats), sample efficiency above the second
FALSE_ALARM = 0.05, 0.5  # divergence of at most the first (nats), sample efficiency below the second
NEAR = 0.9, 0.1  # sample efficiency of at least the first, divergence of at most the second (nats)
SAME = 0.01  # allowed difference of an answer in another batch: nats, or sample efficiency


def is_dishonest(finding: Finding) -> bool:
    off, size = DISHONEST
    return finding.decided and finding.distance.value > off and finding.answer.sample_efficiency > size


def is_false_alarm(finding: Finding) -> bool:
    off, size = FALSE_ALARM
    return finding.decided and finding.distance.value < off and finding.answer.sample_efficiency < size


def is_notable(finding: Finding) -> bool:
    """Whether the report lists the finding individually."""
    other = (batch_difference(finding) or 0.0) > SAME
    return is_dishonest(finding) or not finding.decided or bool(finding.fault) or other


def near(findings: Sequence[Finding]) -> float | None:
    """Return the share of near answers among those that say they are good; None if there are none."""
    size, off = NEAR
    good = [f.distance.value <= off for f in findings if f.decided and f.answer.sample_efficiency >= size]
    return float(np.mean(good)) if good else None


def batch_difference(finding: Finding) -> float | None:
    """Return the difference to the answer computed alone, in nats or sample efficiency; None if not computed."""
    if finding.alone is None:
        return None
    distance, answer = finding.alone
    sizes = abs(answer.sample_efficiency - finding.answer.sample_efficiency)
    apart = abs(distance.value - finding.distance.value) if distance.value != finding.distance.value else 0.0
    return max(sizes, apart)


def _compared(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the number of problems also answered alone, of different answers, and the largest difference."""
    differences = [found for found in map(batch_difference, findings) if found is not None]
    return {
        "alone": len(differences),
        "batch_differences": sum(found > SAME for found in differences),
        "batch_difference_worst": finite(max(differences, default=0.0)),
    }


def row(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return statistics of findings, with divergences of decided ones only, and null for infinite numbers."""
    decided = [f for f in findings if f.decided]
    values = np.array([f.distance.value for f in decided] or [math.nan])
    evidence = np.array([abs(f.evidence_error) for f in decided] or [math.nan])
    return {
        "problems": len(findings),
        "undecided": len(findings) - len(decided),
        "mean": finite(values.mean()),
        "median": finite(np.median(values)),
        "worst": finite(values.max()),
        "dishonest": sum(map(is_dishonest, findings)),
        "false_alarms": sum(map(is_false_alarm, findings)),
        "near": near(findings),
        "sample_efficiency": finite(np.mean([f.answer.sample_efficiency for f in findings])),
        "evidence_error": finite(np.median(evidence)),
        "faults": sum(bool(f.fault) for f in findings),
        **_compared(findings),
        "milliseconds": finite(1e3 * np.mean([f.answer.seconds for f in findings])),
    }


def report(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return all results: in total, by family, of each chain, and of each dishonest, undecided or faulty problem."""
    names = list(dict.fromkeys(f.family for f in findings))
    return {
        **row(findings),
        "families": {name: row([f for f in findings if f.family == name]) for name in names},
        "chains": [_single(f) for f in findings if f.answer.accumulated_error is not None],
        "notable": [_single(f) for f in findings if is_notable(f)],
    }


def _single(finding: Finding) -> dict[str, Any]:
    return {
        "family": finding.family,
        "number": finding.number,
        "divergence": finite(finding.distance.value),
        "error": finite(finding.distance.error),
        "sample_efficiency": finding.answer.sample_efficiency,
        "accumulated_error": finite(finding.answer.accumulated_error),
        "evidence_error": finite(finding.evidence_error),
        "method": finding.answer.method,
        "decided": finding.decided,
        "batch_difference": finite(batch_difference(finding)),
        "dishonest": is_dishonest(finding),
        "fault": finding.fault,
    }


def finite(value: Any) -> float | None:
    """Return a number for JSON, null for an infinite one."""
    return float(value) if value is not None and math.isfinite(value) else None
