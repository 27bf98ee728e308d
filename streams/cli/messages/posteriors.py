"""`beliefstream posteriors`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.output import AsJson
from beliefstream.streams.cli.setup import CommandError, opened, settings_for

if TYPE_CHECKING:
    from beliefstream.schemas import Posterior
    from beliefstream.streams.bridges.posterior_tables import PosteriorWriter


def posteriors(
    as_json: AsJson,
    entity: Annotated[
        list[str] | None, typer.Option(metavar="ENTITY", help="only of this entity; may be repeated")
    ] = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="start at the beginning of the topic, not at its end")
    ] = False,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="end after this many posteriors; exits with 1 if --timeout comes first"),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(min=0, help="end after this many seconds without a posterior", show_default="never"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--out",
            metavar="FILE",
            help="CSV, Parquet or MCAP by its name, JSON lines otherwise",
            show_default="standard output",
        ),
    ] = None,
    brokers: Brokers = None,
) -> None:
    """Follow posteriors until Ctrl-C.

    Example: beliefstream posteriors --entity mower --from-beginning --count 10 --json

    Example: beliefstream posteriors --from-beginning --timeout 10 --output posteriors.csv
    """
    from beliefstream.streams.bridges.posterior_tables import open_posteriors
    from beliefstream.streams.client import PosteriorConsumer

    settings = settings_for(brokers)
    found = 0
    with (
        opened(
            PosteriorConsumer,
            settings,
            settings.names.posteriors,
            entities=entity,
            from_beginning=from_beginning,
            timeout=timeout,
        ) as consumer,
        open_posteriors(output) if output is not None else nullcontext() as file,
    ):
        write = _writer(file, as_json)
        try:
            for posterior in consumer:
                write(posterior)
                found += 1
                if found == count:
                    return
        except KeyboardInterrupt:
            return
    if count is not None:
        raise CommandError(f"{found} of {count} posteriors arrived, then none for {timeout:g} s")


def _writer(file: PosteriorWriter | None, as_json: bool) -> Callable[[Posterior], None]:
    """What writes a posterior to the file, or prints it if there is none."""
    if file is not None:
        return lambda posterior: file.write(posterior.to_json())
    if as_json:
        return lambda posterior: print(posterior.to_json().decode(), flush=True)
    return lambda posterior: print("  ".join(row(posterior)), flush=True)


def row(posterior: Posterior) -> tuple[str, str, str, str, str, str, str]:
    """The cells of a row: time, entity, sequence, mean ± standard deviation of each coordinate, quality, method.

    Quality is the sample efficiency, and the accumulated error in nats or a dash if it is not known.
    """
    from beliefstream.schemas import to_rfc3339

    mixture, error = posterior.mixture, posterior.quality.accumulated_error
    coordinates = [
        f"{coordinate.name} {mean:.2f} ± {deviation:.2f} {coordinate.unit}"
        for coordinate, mean, deviation in zip(
            posterior.coordinates, mixture.mean(), mixture.standard_deviations(), strict=True
        )
    ]
    return (
        to_rfc3339(posterior.time)[:23],
        posterior.entity,
        f"#{posterior.sequence}",
        ", ".join(coordinates),
        f"{posterior.quality.sample_efficiency:.2f}",
        "-" if error is None else f"{error:.2f} nats",
        posterior.quality.method,
    )
