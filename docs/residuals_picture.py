"""Fits the definitions of plaza2 by evidence, and draws its residuals before and after as `docs/residuals.png`.

python -m docs.residuals_picture
"""

from __future__ import annotations

from pathlib import Path

from beliefstream.streams.cli.definitions.sensors_fit import print_fit
from beliefstream.streams.fitting.evidence import Definitions, Recorded
from beliefstream.streams.fitting.picture import paint
from beliefstream.streams.settings import Settings
from beliefstream.streams.worker.updater import make_updater
from research.recordings.evidence import STATED, fitted
from research.recordings.readers import READERS

PICTURE = Path(__file__).with_name("residuals.png")
RECORDING = "plaza2"


def main() -> None:
    """Draw the picture, which takes some minutes."""
    updater = make_updater(Settings())
    stated = READERS[RECORDING].read(settings=STATED[RECORDING].settings)
    _, found = fitted(RECORDING, updater)
    print_fit(found)
    recorded = Recorded(stated.observations, stated.scored_from)
    paint(Definitions(stated.sensors, stated.models), found.definitions, recorded, updater, PICTURE)


if __name__ == "__main__":
    main()
