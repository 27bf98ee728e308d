"""Reads the pages of a program of ours: its metrics, and whether it answers."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import SecretStr

TIMEOUT = 2.0  # seconds; a worker on the same machine answers in milliseconds


@dataclass(frozen=True)
class Snapshot:
    """All samples of one answer; the keys of `values` are name and labels."""

    time: float
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float]

    @classmethod
    def of(cls, text: str) -> Snapshot:
        """Parse a page of metrics in the format of Prometheus."""
        from prometheus_client.parser import text_string_to_metric_families

        values = {
            (sample.name, tuple(sorted(sample.labels.items()))): float(sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        return cls(time.monotonic(), values)

    def total(self, name: str) -> float:
        """The sum over all labels; 0 without samples."""
        return sum(value for (sample, _), value in self.values.items() if sample == name)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Values by one label."""
        return {
            dict(labels)[label]: value for (sample, labels), value in self.values.items() if sample == name
        }


def scrape(url: str, token: SecretStr | None = None) -> Snapshot:
    """Read the metrics of the worker at `url`; raises OSError or ValueError if none answers there."""
    request = urllib.request.Request(f"{url.rstrip('/')}/metrics")
    if token is not None:  # not sent on to the target of a redirect
        request.add_unredirected_header("Authorization", f"Bearer {token.get_secret_value()}")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        return Snapshot.of(answer.read().decode())


def answers(url: str, *, without_error: bool = True) -> bool:
    """Whether a page is there; if asked, only one whose status is no error."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT):
            return True
    except urllib.error.HTTPError:
        return not without_error
    except OSError:
        return False
