"""`python -m research.evaluate --family turns`: beliefs stay right over many steps of a nonlinear motion."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from beliefstream.streams.cli.output import console
from beliefstream.streams.cli.setup import CommandError
from research.evaluation.adversarial.command import updater

if TYPE_CHECKING:
    from beliefstream.streams.settings import Settings


def turns(
    settings: Settings,
    setting: str,
    size: tuple[int, int],
    seed: int,
    count: int,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Print coverage and lost tracks, and return the content for JSON.

    Raises CommandError for unknown settings, or too few particles.

    Args:
        setting: whose settings to use, `library` or `worker`.
        size: numbers of steps and tracks.
        count: particles a track of the filter that stands for the exact one; 0 for none.
    """
    from research.evaluation.turns.particles import KEPT, hold
    from research.evaluation.turns.run import run

    if 0 < count < KEPT:
        raise CommandError(f"--particles: expected 0 or at least {KEPT}, got {count}")
    chosen = updater(settings, setting)
    found = run(chosen, *size, seed, progress=lambda *at: progress("turns", *at))
    content = {"settings": setting, "seed": seed, "weights": settings.weights, **found.as_dict()}
    if count:
        held = hold(chosen, count, *size, seed, progress=lambda *at: progress("particles", *at))
        content["exact"] = held.as_dict()
    show(content)
    return content


def show(content: dict[str, Any]) -> None:
    """Print a row for each region, followed by notes about the tracks."""
    from rich.table import Table

    table = Table(title=f"coordinated turns, settings {content['settings']}, seed {content['seed']}")
    exact = content.get("exact")
    for heading in ("region", "true states inside", *(["exact posterior inside"] if exact else [])):
        table.add_column(heading, justify="right")
    for place, row in enumerate(content["coverage"]):
        cells = [f"{row['region']:.0%}", f"{row['share']:.1%} ± {row['standard_error']:.1%}"]
        if exact:
            cells.append(f"{exact['mass'][place]:.1%} ± {exact['standard_error'][place]:.1%}")
        table.add_row(*cells)
    console().print(table)
    print(
        f"lost: {len(content['lost'])} of {content['tracks']} tracks, {content['steps']} steps each; negative log "
        f"density of the true state, by track: median {content['median_negative_log_density']:.2f}, worst "
        f"{content['worst_negative_log_density']:.2f} nats; least efficiency {content['least_sample_efficiency']:.2f}; "
        f"the motion says that it lost {content['loss_of_motion']:.4f} nats a step; {content['components']:.1f} "
        f"components; {content['milliseconds_of_motion']:.1f} ms for the motion of a step and "
        f"{content['milliseconds_of_update']:.1f} ms for its update"
    )
