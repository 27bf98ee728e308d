from __future__ import annotations

import io

from rich.console import Console

from beliefstream.schemas import Coordinate, Mixture, Posterior, Quality
from beliefstream.streams.cli.metrics_scraper import Scraper, Snapshot
from beliefstream.streams.cli.watch import Recent, view


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
                effective_sample_size=1, log_evidence=0, surprise=0.5, method="kalman", accumulated_error=0.25
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
