from __future__ import annotations

import io

import pytest
from rich.console import Console

from beliefstream.schemas import Coordinate, Mixture, Posterior, Quality
from beliefstream.streams.cli.services.metrics_scraper import Scraper
from beliefstream.streams.cli.services.watch import MOST, Recent, view
from beliefstream.streams.monitoring.scraping import Snapshot
from tests.streams.client.topics import posterior


def shown(recent: Recent, width: int, height: int) -> list[str]:
    """The lines of the screen."""
    worker = Scraper("http://127.0.0.1:1")
    worker.history.add(Snapshot(0.0, {}))
    screen = Console(file=io.StringIO(), width=width, record=True)
    screen.print(view(worker, recent, width, height))
    return screen.export_text().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 60), (200, 40), (60, 20)])
def test_it_fills_the_terminal_and_does_not_wrap(width: int, height: int) -> None:
    recent = Recent()
    for number in range(100):
        recent.add(posterior(1, f"mower-of-a-rather-long-name-{number}"))
    lines = shown(recent, width, height)
    assert height - 1 <= len(lines) <= height
    rows = [line for line in lines if "1970-01-01" in line]
    assert len(rows) >= height - 6 - 2 * 7
    assert "#1" in rows[0]


def test_only_names_with_the_text_are_shown_the_newest_first() -> None:
    recent = Recent("MOW")
    for name in ("mower-1", "ship", "mower-2"):
        recent.add(posterior(1, name))
    lines = "\n".join(shown(recent, 120, 24))
    assert "ship" not in lines
    assert lines.index("mower-2") < lines.index("mower-1")
    assert "posteriors of 2 entities with 'MOW' in the name" in lines


def test_memory_is_bounded() -> None:
    recent = Recent()
    for number in range(2 * MOST):
        recent.add(posterior(1, f"e-{number}"))
    assert len(recent.latest) == MOST
    assert f"e-{2 * MOST - 1}" in recent.latest


def test_what_looks_like_markup_is_shown_as_it_is() -> None:
    recent, worker = Recent(), Scraper("http://127.0.0.1:1")
    worker.history.add(Snapshot(0.0, {("beliefstream_dead_letters_total", (("reason", "[/red]late"),)): 3.0}))
    recent.add(
        Posterior(
            entity="mower",
            time=1.0,
            sequence=1,
            revision=0,
            coordinates=(Coordinate(name="x", unit="[/]m"),),
            mixture=Mixture.gaussian((1.0,), 1.0),
            quality=Quality(
                sample_efficiency=1, log_evidence=0, p_value=0.5, method="kalman", accumulated_error=0.25
            ),
            applied=(),
            prior_sequence=0,
            model="walker",
            model_version=1,
        )
    )
    screen = Console(file=io.StringIO(), width=160, record=True)
    screen.print(view(worker, recent))
    text = screen.export_text()
    assert "0.25 nats" in text
    assert "x 1.00 ± 1.00 [/]m" in text
    assert "[/red]late 3" in text
