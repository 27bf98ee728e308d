"""`beliefstream sensors fit` and `fit-files`: definitions fitted to a recording by its evidence."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from beliefstream.streams.cli.definitions.registry import open_registry
from beliefstream.streams.cli.options import read_definitions
from beliefstream.streams.cli.output import console, loading
from beliefstream.streams.cli.setup import require_rights, settings_for

if TYPE_CHECKING:
    from beliefstream.schemas import Observation
    from beliefstream.streams.cli.definitions.fit_options import Fitted, Fitting
    from beliefstream.streams.cli.definitions.fit_sources import Files, Topic
    from beliefstream.streams.fitting.evidence import Definitions
    from beliefstream.streams.fitting.fit import Fit


def fit_recording(
    source: Files | Topic,
    sensors: str | None,
    models: str | None,
    fitting: Fitting,
    fitted: Fitted,
    brokers: str | None,
) -> None:
    """Fit definitions to observations: prints sensors as JSON lines, and a table on standard error.

    Args:
        source: of the observations.
        sensors, models: where the definitions are; None for those of their topics.
        fitting: how to fit.
        fitted: what to do with what is found.
        brokers: of the topics; None as the environment says.
    """
    with loading():
        from beliefstream.streams.definitions import own_code
        from beliefstream.streams.fitting.evidence import Recorded
        from beliefstream.streams.fitting.fit import fit
        from beliefstream.streams.worker.updater import make_updater

        if fitted.picture is not None:
            from beliefstream.streams.fitting.picture import paint
    settings = settings_for(brokers)
    applied = fitted.apply or fitted.apply_anyway
    if applied:
        written = {settings.names.sensors: ["READ", "WRITE"], settings.names.models: ["READ", "WRITE"]}
        require_rights(settings, written, "an operator")
    own_code.load(settings.measurements)
    defined = _defined(sensors, models, brokers)
    observed = source.read(defined, settings)
    stated = _reporting(defined, observed)
    split = observed[min(int(fitting.share * len(observed)), len(observed) - 1)].time
    errors = console(errors=True)
    recorded, updater = Recorded(observed, split), make_updater(settings)
    found = fit(
        stated,
        recorded,
        updater,
        scale=fitting.scale,
        each=fitting.each,
        modes=fitting.modes,
        note=errors.print,
    )
    print_fit(found)
    for sensor in found.definitions.sensors:
        print(sensor.to_json().decode())
    if fitted.models_out is not None:
        lines = [model.to_json() + b"\n" for model in found.definitions.models]
        fitted.models_out.write_bytes(b"".join(lines))
    if fitted.picture is not None:
        paint(stated, found.definitions, recorded, updater, fitted.picture)
    if applied:
        from beliefstream.streams.cli.definitions.sensors_apply import publish

        publish(stated, found.definitions, objections(found), force=fitted.apply_anyway, brokers=brokers)


def _defined(sensors: str | None, models: str | None, brokers: str | None) -> Definitions:
    from beliefstream.schemas import Model, parse, parse_sensor
    from beliefstream.streams.bridges.definition_files import parse_definitions
    from beliefstream.streams.fitting.evidence import Definitions

    registry = open_registry(brokers)  # connects where it is read
    if sensors is not None:
        defined = parse_definitions(read_definitions(sensors), parse_sensor)
    else:
        defined = [*registry.sensors().values()]
    if models is not None:
        known = parse_definitions(read_definitions(models), lambda raw: parse(Model, raw))
    else:
        known = [*registry.models().values()]
    return Definitions(tuple(defined), tuple(known))


def _reporting(stated: Definitions, observed: Sequence[Observation]) -> Definitions:
    """The sensors that reported, with those of their devices, and the models of what they observed.

    The others would be numbers to fit of which nothing is known.
    """
    from beliefstream.streams.fitting.evidence import Definitions

    owners = stated.owners()
    reporting = {owners[each.sensor] for each in observed}
    entities, names = {each.entity for each in observed}, {each.entity for each in stated.models}
    used = {entity if entity in names else "*" for entity in entities}
    return Definitions(
        tuple(each for each in stated.sensors if owners[each.sensor] in reporting),
        tuple(each for each in stated.models if each.entity in used),
    )


def objections(found: Fit) -> list[str]:
    """Why the proposed definitions should not be used as they are; none if nothing is against them."""
    from beliefstream.streams.fitting.halves import TOO_CERTAIN

    said = []
    if not found.proposed.apart > found.trials[0].apart:
        said.append("on the part kept apart the fitted definitions are no better than the stated ones")
    ratio = found.ratio_by_halves
    if ratio is not None and (math.isnan(ratio) or ratio > TOO_CERTAIN):
        said.append("beliefs are too certain: more of the error lasts, or it is larger than stated")
    for (group, field), factor in found.factors.items():
        if field == "standard_deviation" and factor > TOO_CERTAIN:
            said.append(
                f"{group}: the stated deviation is too small for a total, so that nothing of it can last"
            )
    return said


def print_fit(found: Fit) -> None:
    """Print the evidence of each part of the error, what was found, and what is against it."""
    from rich.table import Table

    from beliefstream.streams.fitting.fit import MODES_GAIN

    table = Table("definitions", title="evidence, nats for each observation")
    for heading in ("first part", "kept apart"):
        table.add_column(heading, justify="right")
    for trial in found.trials:
        table.add_row(trial.name, f"{trial.first:.3f}", f"{trial.apart:.3f}")
    console(errors=True).print(table)
    for (group, field), factor in found.factors.items():
        print(f"{group}: {field} {factor:.3g} times the stated one", file=sys.stderr)
    lasts = "no error lasts: all of the stated deviation is independent, or more"
    if found.correlation_time is not None:
        lasts = f"the rest of the stated deviation lasts {found.correlation_time:g} s"
        if found.proposed.first < found.independent.first:
            lasts += ", which lowers the evidence: the stated deviation may be too large"
    print(lasts, file=sys.stderr)
    if found.modes_gain is not None:
        said = "modes of the motion noise are" + " not" * (not found.form.modes) + " proposed"
        print(f"{said}: they gain {found.modes_gain:.1f} nats, {MODES_GAIN:g} are needed", file=sys.stderr)
    line = "no check by halves: too few devices reported, or the motion noise has modes"
    if found.ratio_by_halves is not None:
        line = f"by halves: beliefs of two halves of the sensors are {found.ratio_by_halves:.2f} times as far apart "
        line += "as they should be"
    print(line, file=sys.stderr)
    for each in objections(found):
        print(f"warning: {each}", file=sys.stderr)
