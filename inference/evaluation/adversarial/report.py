"""What the evaluation found, by family and in all, as JSON can hold it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from inference.evaluation.adversarial.run import Finding

DISHONEST = 0.5, 0.5  # nats off, while the effective sample size is above
FALSE_ALARM = 0.05, 0.5  # nats off at most, while the effective sample size is below
NEAR = 0.9, 0.1  # of answers of this quality, the share that is so many nats off at most


def is_dishonest(finding: Finding) -> bool:
    off, size = DISHONEST
    return finding.decided and finding.distance.value > off and finding.answer.effective_sample_size > size


def is_false_alarm(finding: Finding) -> bool:
    off, size = FALSE_ALARM
    return finding.decided and finding.distance.value < off and finding.answer.effective_sample_size < size


def near(findings: Sequence[Finding]) -> float | None:
    """Of answers of high quality the share that is near; None where there is none."""
    quality, off = NEAR
    good = [f.distance.value <= off for f in findings if f.decided and f.answer.quality >= quality]
    return float(np.mean(good)) if good else None


def row(findings: Sequence[Finding]) -> dict[str, Any]:
    """Figures of some findings; divergences that are not finite count as infinite and are null."""
    decided = [f for f in findings if f.decided]
    values = np.array([f.distance.value for f in decided] or [math.nan])
    evidence = np.array([abs(f.evidence_error) for f in decided] or [math.nan])
    return {
        "problems": len(findings),
        "undecided": len(findings) - len(decided),
        "mean": _number(values.mean()),
        "median": _number(np.median(values)),
        "worst": _number(values.max()),
        "dishonest": sum(map(is_dishonest, findings)),
        "false_alarms": sum(map(is_false_alarm, findings)),
        "near": near(findings),
        "effective_sample_size": _number(np.mean([f.answer.effective_sample_size for f in findings])),
        "evidence_error": _number(np.median(evidence)),
        "faults": sum(bool(f.fault) for f in findings),
        "milliseconds": _number(1e3 * np.mean([f.answer.seconds for f in findings])),
    }


def report(findings: Sequence[Finding]) -> dict[str, Any]:
    """All figures: in all, by family, and every problem that is dishonest, undecided or at fault."""
    names = list(dict.fromkeys(f.family for f in findings))
    return {
        **row(findings),
        "families": {name: row([f for f in findings if f.family == name]) for name in names},
        "notable": [_single(f) for f in findings if is_dishonest(f) or not f.decided or f.fault],
    }


def _single(finding: Finding) -> dict[str, Any]:
    return {
        "family": finding.family,
        "number": finding.number,
        "divergence": _number(finding.distance.value),
        "error": _number(finding.distance.error),
        "effective_sample_size": finding.answer.effective_sample_size,
        "quality": finding.answer.quality,
        "evidence_error": _number(finding.evidence_error),
        "method": finding.answer.method,
        "decided": finding.decided,
        "dishonest": is_dishonest(finding),
        "fault": finding.fault,
    }


def _number(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
