"""Settings of recordings by evidence: what a data sheet states, and what a first third shows without its truth.

The stated numbers are round ones for the kind of device: no calibration, and motion noise of the order of its speed.
Whoever stated them had seen the residuals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import ControlSensor, Sensor, parse_sensor
from beliefstream.streams.fitting.evidence import Definitions, Recorded
from beliefstream.streams.fitting.fit import Fit, fit
from beliefstream.streams.scores.recording import Recording
from research.recordings.ais_solent import AisSettings
from research.recordings.ble_rssi import BleSettings
from research.recordings.laser_radar import LaserRadarSettings
from research.recordings.mrclam import MrclamSettings
from research.recordings.parts import of_few
from research.recordings.plaza import Plaza2Settings
from research.recordings.readers import READERS
from research.recordings.uwb_planar import UwbSettings


@dataclass(frozen=True)
class Stated:
    """Settings from which a fit starts.

    Attributes:
        settings: of the reader.
        scale: whether the fit is to find the scale of distances.
        modes: whether it is to try modes of the motion noise.
        fields: of the sensors but `control`, beside those of the reader: constant errors that are not known.
    """

    settings: Any
    scale: bool = False
    modes: bool = False
    fields: Mapping[str, Any] = field(default_factory=dict)

    def sensors(self, read: Sequence[Sensor]) -> tuple[Sensor, ...]:
        """Return the sensors of a recording with the constant errors."""
        return tuple(each if isinstance(each, ControlSensor) else self._with_fields(each) for each in read)

    def _with_fields(self, sensor: Sensor) -> Sensor:
        found = sensor.model_dump(mode="json", exclude_none=True)
        for name, value in self.fields.items():
            found[name] = found[name] | value if isinstance(value, Mapping) else value
        return parse_sensor(found)


STATED: Mapping[str, Stated] = {
    "plaza1": Stated(Plaza2Settings(1.0, 0.0, 0.6, 0.01, 0.2), scale=True, modes=True),
    "plaza2": Stated(Plaza2Settings(1.0, 0.0, 0.6, 0.01, 0.2), scale=True, modes=True),
    "mrclam_robot1": Stated(
        MrclamSettings(0.1, 1.0, 0.0, 0.01, 0.02, 0.01, 0.05, 0.1, depth=True),
        fields={"device": "camera", "shared_errors": ["bias"], "range": {"bias_deviation": 0.1}},
    ),
    "uwb_planar": Stated(
        UwbSettings(0.1, 0.01, 0.3, 0.3, (0.0,) * 24),
        fields={"device": "body", "shared_errors": ["scale"], "bias_deviation": 0.3, "scale_deviation": 0.01},
    ),
    "ble_rssi": Stated(
        BleSettings(-59.0, 2.0, 6.0, 0.1, (0.0,) * 12), modes=True, fields={"bias_deviation": 4.0}
    ),
    "laser_radar": Stated(LaserRadarSettings(0.15, 0.3, 0.03, 0.3, 1.0), modes=True),
    "ais_solent": Stated(
        AisSettings(1.5, 1.0, 0.2, 2.0, 0.01, 600.0), modes=True, fields={"device": "transponder"}
    ),
}


def fitted(
    name: str, updater: Updater, data: Path | None = None, note: Callable[[str], None] = lambda _: None
) -> tuple[Recording, Fit]:
    """Return a recording with the definitions that the evidence of its first third gives, and the fit.

    Of many entities, the fit takes few. A recording with the settings of another has those fitted to the other.

    Raises:
        ValueError: nothing is stated for it.
        RecordingUnavailable: its files do not exist.
    """
    source = READERS[name].settings_of or name
    if source not in STATED:
        raise ValueError(f"--fit evidence: expected one of {', '.join(STATED)}, got {name!r}")
    stated = STATED[source]

    def definitions(recording: Recording) -> Definitions:
        return Definitions(stated.sensors(recording.sensors), recording.models)

    few = of_few(READERS[source].read(data=data, settings=stated.settings))
    recorded = Recorded(few.observations, few.scored_from)
    found = fit(definitions(few), recorded, updater, scale=stated.scale, modes=stated.modes, note=note)
    recording = READERS[name].read(data=data, settings=stated.settings)
    sensors, (model, *others) = found.applied(definitions(recording))
    return replace(recording, sensors=sensors, model=model, other_models=tuple(others)), found
