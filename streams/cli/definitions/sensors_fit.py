"""`beliefstream sensors fit` of a file: definitions fitted to a recording by its evidence."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from beliefstream.streams.cli.options import name_of, read_definitions, tell
from beliefstream.streams.cli.output import console, loading
from beliefstream.streams.cli.setup import CommandError, settings_for

if TYPE_CHECKING:
    from beliefstream.schemas import Observation
    from beliefstream.streams.bridges.mapping import ColumnMapping
    from beliefstream.streams.scores.evidence import Definitions
    from beliefstream.streams.scores.fitting import Fit


def fit_files(
    files: Sequence[str],
    sensors: str,
    models: str,
    columns: ColumnMapping,
    *,
    share: float,
    scale: bool,
    each: bool,
    models_out: Path | None,
) -> None:
    """Fit definitions to the observations of files: prints sensors as JSON lines, and a table on standard error."""
    with loading():
        from beliefstream.schemas import Model, parse, parse_sensor
        from beliefstream.streams.bridges.definition_files import parse_definitions
        from beliefstream.streams.definitions import own_code
        from beliefstream.streams.scores.evidence import Definitions, Recorded
        from beliefstream.streams.scores.fitting import fit
        from beliefstream.streams.worker.updater import make_updater

    settings = settings_for()
    own_code.load(settings.measurements)
    stated = Definitions(
        tuple(parse_definitions(read_definitions(sensors), parse_sensor)),
        tuple(parse_definitions(read_definitions(models), lambda raw: parse(Model, raw))),
    )
    observed = _observations(files, stated, columns)
    split = observed[min(int(share * len(observed)), len(observed) - 1)].time
    errors = console(errors=True)
    recorded, updater = Recorded(observed, split), make_updater(settings)
    found = fit(stated, recorded, updater, scale=scale, each=each, note=errors.print)
    print_fit(found)
    for sensor in found.definitions.sensors:
        print(sensor.to_json().decode())
    if models_out is not None:
        lines = [model.to_json() + b"\n" for model in found.definitions.models]
        models_out.write_bytes(b"".join(lines))


def _observations(files: Sequence[str], stated: Definitions, columns: ColumnMapping) -> list[Observation]:
    """The observations of the files by time that a worker would apply; raises CommandError if there is none."""
    from beliefstream.streams.bridges.mapping import Found, observations
    from beliefstream.streams.bridges.tables import format_of, open_table
    from beliefstream.streams.scores.own import usable

    rows: list[Found] = []
    for file in files:
        with closing(open_table(file, format_of(file), columns.bag)) as table:
            rows += observations(table, columns)
    observed = usable(rows, stated.sensors, stated.models, tell)
    if not observed:
        raise CommandError(f"{', '.join(map(name_of, files))}: no row can be used; nothing was fitted")
    return observed


def print_fit(found: Fit) -> None:
    """Print the evidence of each part of the error, and what was found."""
    from rich.table import Table

    from beliefstream.streams.scores.fitting import FITTED
    from beliefstream.streams.scores.halves import TOO_CERTAIN

    table = Table("definitions", title="evidence, nats for each observation")
    for heading in ("first part", "kept apart"):
        table.add_column(heading, justify="right")
    for trial in found.trials:
        table.add_row(trial.name, f"{trial.first:.3f}", f"{trial.apart:.3f}")
    console(errors=True).print(table)
    for (group, field), factor in found.factors.items():
        print(f"{group}: {field} {factor:.3g} times the stated one", file=sys.stderr)
    lasts = "no error lasts: all of the stated deviation is independent"
    if found.correlation_time is not None:
        lasts = f"the rest of the stated deviation lasts {found.correlation_time:g} s"
        if found.trials[-1].first < next(each.first for each in found.trials if each.name == FITTED):
            lasts += ", which lowers the evidence: the stated deviation may be too large"
    print(lasts, file=sys.stderr)
    if found.ratio_by_halves is None:
        print("no check by halves: too few devices reported, or no report could be scored", file=sys.stderr)
        return
    line = f"by halves: reports are {found.ratio_by_halves:.2f} times as far from what the other half of the sensors "
    line += "predicts as they should be"
    if found.ratio_by_halves > TOO_CERTAIN:
        line += ": beliefs are too certain; more of the error lasts, or it is larger than stated"
    print(line, file=sys.stderr)
