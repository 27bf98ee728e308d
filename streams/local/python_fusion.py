"""Fuses observations that are in memory: `beliefstream.fuse`, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from typing import Any, Literal

from beliefstream.schemas import Model, Observation, Posterior, Sensor, Unusable, parse
from beliefstream.streams.bridges.mapping import mapping_of, observations as read_observations
from beliefstream.streams.bridges.posterior_tables import columns_with, row_of
from beliefstream.streams.bridges.rows import Row, Table
from beliefstream.streams.definitions import own_code
from beliefstream.streams.local.offline_log import Log
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.updater import make_updater

Library = Literal["pandas", "polars"]


def library_of(frame: Any) -> Library | None:
    """The library of a frame; None if it is none."""
    module = type(frame).__module__.partition(".")[0]
    if type(frame).__name__ != "DataFrame":
        return None
    return "pandas" if module == "pandas" else "polars" if module == "polars" else None


def table_of(frame: Any, library: Library) -> Table:
    """The rows of a frame; times with a zone become seconds since the epoch."""
    if library == "pandas":
        filled = frame.astype(object).where(frame.notna(), None)  # NaN, NaT and NA are empty cells
        columns = {str(name): filled[name].tolist() for name in filled.columns}
    else:
        columns = frame.to_dict(as_series=False)
    return Table("observations", tuple(columns), _rows(columns), len(frame))


def _rows(columns: dict[str, list[Any]]) -> Iterator[Row]:
    for number, cells in enumerate(zip(*columns.values(), strict=True)):
        yield Row(f"row {number}", dict(zip(columns, map(plain, cells), strict=True)))


def plain(cell: Any) -> Any:
    """A cell as JSON knows it: times with a zone as seconds since the epoch, others as text, arrays as lists."""
    if isinstance(cell, datetime):
        return cell.isoformat() if cell.tzinfo is None else cell.timestamp()
    return cell.tolist() if hasattr(cell, "tolist") else cell


def frame_of(posteriors: Sequence[Posterior], library: Library) -> Any:
    """A frame with the columns that posteriors have in files."""
    columns: tuple[str, ...] = ()
    rows = [row_of(posterior) for posterior in posteriors]
    for row in rows:
        columns = columns_with(columns, row)
    by_column = {name: [row.get(name) for row in rows] for name in columns or columns_with((), {})}
    return import_module(library).DataFrame(by_column)


def fuse(
    observations: Any,
    sensors: Sensor | Sequence[Sensor],
    models: Model | Sequence[Model],
    columns: Mapping[str, str | Sequence[str]] | None = None,
    constants: Mapping[str, Any] | None = None,
) -> Any:
    """Fuse observations in this process, without Kafka, by the rules of a worker.

    >>> posteriors = fuse(frame, gps, walker, columns={"time": "t", "value": ["x", "y"]}, constants={"sensor": "gps"})

    Settings come from the environment, as for a worker; it needs `beliefstream[worker]`.

    Args:
        observations: a list of `Observation` or of dictionaries with its fields, or a frame of pandas or polars, in any
            order.
        sensors: that the observations name.
        models: of the entities; `*` is that of all others.
        columns: the columns of fields, where they are called otherwise.
        constants: fields that are the same in every row.

    Returns:
        Posteriors, in order of time for each entity: a list of `Posterior` for a list, otherwise a frame of the same
        library with means, standard deviations and quality.

    Raises:
        ValueError: a row cannot be used, or gives no finite posterior; the line names it, its field and the value.
            Or a variable of the environment is not valid, or is called almost like a setting.
    """
    settings = Settings()
    own_code.load(settings.measurements)
    log = Log(settings.maximum_message_bytes, settings.future_tolerance)
    for sensor in [sensors] if not isinstance(sensors, Sequence) else sensors:
        log.define_sensor(sensor)
    for model in [models] if isinstance(models, Model) else models:
        log.define_model(model)
    library = library_of(observations)
    table = table_of(observations, library) if library else _listed(observations)
    listed = {name: each if isinstance(each, str) else list(each) for name, each in (columns or {}).items()}
    stated = {"columns": listed, "constants": dict(constants or {})}
    for place, observation in read_observations(table, mapping_of(stated, (), (), None)):
        if isinstance(observation, Unusable):
            raise ValueError(f"{place}: {observation}")
        try:
            log.add(observation.to_json(), place)
        except Unusable as fault:
            raise ValueError(f"{place}: {fault}") from None
    posteriors = [parse(Posterior, fused.to_json()) for fused in log.fuse(make_updater(settings))]
    log.require_no_failure()
    return frame_of(posteriors, library) if library else posteriors


def _listed(observations: Iterable[Observation | Mapping[str, Any]]) -> Table:
    rows = (Row(f"observations[{number}]", _fields(each)) for number, each in enumerate(observations))
    return Table("observations", None, rows)


def _fields(observation: Observation | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(observation, Observation):
        return observation.model_dump(exclude_none=True)
    return {name: plain(each) for name, each in observation.items()}
