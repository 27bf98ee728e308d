"""A bridge needs its own extra only, as in an image without a worker."""

from __future__ import annotations

import subprocess
import sys

import pytest

from beliefstream.streams.cli.setup import EXTRAS

BRIDGES = {
    "gateway": "beliefstream.streams.bridges.gateway.server",
    "mqtt": "beliefstream.streams.bridges.mqtt.bridge",
}


@pytest.mark.parametrize("extra", BRIDGES)
def test_a_bridge_imports_nothing_that_only_a_worker_installs(extra: str) -> None:
    missing = sorted({*EXTRAS["worker"]} - {*EXTRAS["gateway"]})
    code = f"import sys; sys.modules.update(dict.fromkeys({missing})); import {BRIDGES[extra]}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
