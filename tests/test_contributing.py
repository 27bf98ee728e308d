"""CONTRIBUTING.md: its diffs apply to a copy of the tree, and what they add is used there as a user would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_docs import ROOT, blocks

pytestmark = pytest.mark.programs
PAGE = ROOT / "CONTRIBUTING.md"
ADDED = """
import beliefstream
from beliefstream import AirspeedSensor, Quality, parse_sensor

assert "AirspeedSensor" in beliefstream.__all__ and "log_prior_evidence" in Quality.model_fields
definition = {"sensor": "pitot", "kind": "airspeed", "wind": [3, 4], "standard_deviation": 1}
assert isinstance(parse_sensor(definition), AirspeedSensor)
parse_sensor(definition | {"wind": [3]})
"""


class Copy:
    """A copy of the tree, with the diffs of the page."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._environment = os.environ | {"PYTHONPATH": str(root / "src")}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command at the root of the copy."""
        return subprocess.run(command, cwd=self.root, env=self._environment, capture_output=True, text=True)

    def python(self, *arguments: str) -> str:
        """What Python prints; it must succeed."""
        ended = self.run(sys.executable, *arguments)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    root = tmp_path_factory.mktemp("copy") / "beliefstream"
    left_out = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "node_modules")
    shutil.copytree(ROOT, root, symlinks=True, ignore=left_out)  # compiled native code comes with it
    changed = Copy(root)
    (root / "page.diff").write_text("".join(blocks(PAGE, "diff")), encoding="utf-8")
    applied = changed.run("git", "apply", "page.diff")
    assert applied.returncode == 0, applied.stderr
    for contract in (("-m", "beliefstream", "contract", "schemas/generated"), ("docs/generate.py",)):
        changed.python(*contract)  # as `make contract` does
    yield changed
    shutil.rmtree(root)


def test_the_new_sensor_gives_a_posterior(copy: Copy) -> None:
    (program,) = blocks(PAGE, "py")
    _, speed = map(float, copy.python("-c", program).strip(" []\n").split())
    assert speed == pytest.approx(35, abs=1)


def test_the_names_follow_from_the_entry_and_a_fault_is_explained(copy: Copy) -> None:
    ended = copy.run(sys.executable, "-c", ADDED)
    assert "Unusable: invalid_definition: airspeed.wind: expected 2 numbers" in ended.stderr


def test_the_tests_of_the_copy_take_the_new_kind(copy: Copy) -> None:
    tests = "tests/schemas/sensors", "tests/schemas/test_page.py", "tests/streams/definitions/test_sensors.py"
    printed = copy.python("-m", "pytest", "-q", "-k", "airspeed or every_kind", *tests)
    assert "passed" in printed
    assert "failed" not in printed


def test_a_kind_without_a_measurement_model_is_named(copy: Copy) -> None:
    place = copy.root / "streams/definitions/sensors.py"
    complete = place.read_text(encoding="utf-8")
    place.write_text(
        complete.replace("@_model_of.register\ndef _airspeed", "def _airspeed"), encoding="utf-8"
    )
    ended = copy.run(sys.executable, "-c", "import beliefstream.streams.definitions.sensors")
    place.write_text(complete, encoding="utf-8")
    assert "NotImplementedError: AirspeedSensor needs an entry of `_model_of`" in ended.stderr


def test_the_page_is_short_and_names_what_is_there() -> None:
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 200
