"""Recordings of one's own: observations and a truth in files, scored as the built-in recordings are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from beliefstream.schemas import Model, Observation, Sensor, Unusable
from beliefstream.streams.bridges.mapping import ColumnMapping, Found, observations
from beliefstream.streams.bridges.rows import Table
from beliefstream.streams.scores.recording import Recording
from beliefstream.streams.scores.tracks import defined


def usable(
    found: Iterable[Found],
    sensors: Sequence[Sensor],
    models: Sequence[Model],
    refuse: Callable[[Found], None],
) -> list[Observation]:
    """The observations that a worker with these definitions would apply, by time; `refuse` is given the other rows."""
    log = defined(sensors, models)
    kept: list[Observation] = []
    for each in found:
        try:
            if isinstance(each.observation, Unusable):
                raise each.observation
            log.add(each.observation.to_json())
            kept.append(each.observation)
        except Unusable as fault:
            refuse(Found(each.place, fault))
    return sorted(kept, key=lambda observation: observation.time)


def model_of(entity: str, models: Sequence[Model]) -> Model:
    """The model of an entity, or that of `*` under its name.

    Raises:
        ValueError: there is neither.
    """
    stated = {model.entity: model for model in models}
    found = stated.get(entity) or stated.get("*")
    if found is None:
        raise ValueError(f"no model of {entity!r} and none for *")
    return found.model_copy(update={"entity": entity})


def read_truth(
    table: Table,
    model: Model,
    entities: Sequence[str],
    mapped: Mapping[str, str],
    time_unit: str,
    refuse: Callable[[Found], None],
) -> tuple[tuple[str, ...], dict[str, list[Observation]]]:
    """Read true states: columns `time`, those called as coordinates of the model, and `entity` if there are several.

    Args:
        table: with named columns.
        model: of the entities; of its coordinates those are scored that have the unit of the first that is there.
        entities: that were observed.
        mapped: the columns of `time`, `entity` and coordinates that are called otherwise.
        time_unit: of times that are numbers, a key of `topic_templates.TIME_UNITS`.
        refuse: is given the rows that cannot be used.

    Returns:
        The names of the scored coordinates, and the true states of each entity, by time.

    Raises:
        ValueError: a column is missing, or several entities were observed and the truth does not say whose it is.
    """
    known = table.columns or ()
    there = [each for each in model.coordinates if mapped.get(each.name, each.name) in known]
    if not there:
        wanted, listed = ", ".join(model.coordinate_names), ", ".join(known)
        raise ValueError(f"{table.name}: no column is a coordinate ({wanted}); there are {listed}")
    scored = tuple(each.name for each in there if each.unit == there[0].unit)
    columns = {
        "value": tuple(mapped.get(name, name) for name in scored),
        "time": (mapped.get("time", "time"),),
    }
    constants = {"sensor": "truth"}
    if (named := mapped.get("entity", "entity")) in known or len(entities) > 1:
        columns["entity"] = (named,)
    else:
        constants["entity"] = entities[0]
    states: dict[str, list[Observation]] = defaultdict(list)
    for found in observations(table, ColumnMapping(columns, constants, time_unit)):
        if isinstance(found.observation, Unusable):
            refuse(found)
        else:
            states[found.observation.entity].append(found.observation)
    return scored, {entity: sorted(of, key=lambda state: state.time) for entity, of in states.items()}


def recordings_of(
    name: str,
    observed: Sequence[Observation],
    sensors: Sequence[Sensor],
    models: Sequence[Model],
    scored: tuple[str, ...],
    truth: Mapping[str, Sequence[Observation]],
) -> list[Recording]:
    """A recording for each entity whose truth is known.

    Raises:
        ValueError: no observation of an entity lies within the times of its truth, or no entity has a truth.
    """
    found = []
    for entity in sorted({each.entity for each in observed} & truth.keys()):
        of = [each for each in observed if each.entity == entity]
        times = np.array([state.time for state in truth[entity]])
        if not any(times[0] <= each.time <= times[-1] for each in of):
            raise ValueError(
                f"{name}: no observation of {entity!r} lies within the times of its truth, {times[0]:.17g} to "
                f"{times[-1]:.17g}; they are from {of[0].time:.17g} to {of[-1].time:.17g}"
            )
        states = np.array([state.values for state in truth[entity]])
        model, used = model_of(entity, models), {each.sensor for each in of}
        chosen = tuple(sensor for sensor in sensors if sensor.sensor in used)
        found.append(Recording(f"{name}: {entity}", model, chosen, of, scored, times, states))
    if not found:
        entities = ", ".join(sorted({each.entity for each in observed})[:10])
        raise ValueError(f"{name}: the truth is of none of the entities that were observed: {entities}")
    return found
