"""Measures how long each way in takes to the first posterior: `python -m tests.first_posterior`.

Each way begins with nothing that runs: broker, worker and what it needs besides are started one after the other, each
as soon as the one before is ready, by the commands of the pages. None finds compiled code of an earlier start; each is
done a second time with what the first has compiled. With `--environment DIR`, an environment is made there first if
there is none, and its commands are used.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from beliefstream.streams.local.broker import GuardedProcess, free_port
from tests.conftest import eventually
from tests.streams.bridges.bags import Sent, odometry, write_bag
from tests.streams.bridges.mosquitto import Mosquitto, publish, publishing
from tests.streams.cli.examples import GPS, WALKER

ROOT = Path(__file__).parents[1]
PATIENCE = 1800.0  # seconds; on a busy machine compiling takes many minutes
GRACE = 10.0
MAPPING = {"topics": [{"topic": "{entity}/{sensor}", "time": None, "id": "id"}]}


class Machine:
    """The commands of an installation, run in one folder; `running` is stopped in the end.

    Numba's compiled code is kept in the folder `compiled`.
    """

    def __init__(self, program: str, folder: Path, compiled: Path, running: ExitStack) -> None:
        self._program, self.folder, self._running = program, folder, running
        self.ports = {name: free_port() for name in ("broker", "web", "gateway", "bridge")}
        own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.environment = own | {
            "BELIEFSTREAM_BROKERS": f"127.0.0.1:{self.ports['broker']}",
            "BELIEFSTREAM_FETCH_HIGH_WATERMARK": "true",
            "BELIEFSTREAM_DATA_DIRECTORY": str(folder),
            "NUMBA_CACHE_DIR": str(compiled),
            **{
                f"BELIEFSTREAM_{name.upper()}_ADDRESS": f"127.0.0.1:{self.ports[name]}"
                for name in ("web", "gateway", "bridge")
            },
        }

    def run(self, *arguments: str) -> str:
        """Standard output of a command that ends."""
        done = subprocess.run(
            [self._program, *arguments], env=self.environment, cwd=self.folder, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RuntimeError(f"beliefstream {arguments[0]}: {done.stderr}")
        return done.stdout

    def start(self, *arguments: str) -> None:
        """A command that goes on."""
        output = (self.folder / f"{arguments[0]}.log").open("ab")
        process = GuardedProcess([self._program, *arguments], GRACE, output, self.environment)
        self._running.callback(process.stop, GRACE)

    def wait_until_ready(self, port: str) -> None:
        """Wait for /readyz at a port by its name."""
        eventually(
            lambda: answers(f"http://127.0.0.1:{self.ports[port]}/readyz"), PATIENCE, f"{port} is ready"
        )

    def stream(self) -> None:
        """Broker, worker and definitions."""
        self.start("broker", "--port", str(self.ports["broker"]))
        eventually(
            lambda: "127.0.0.1" in (self.folder / "broker.log").read_text(), PATIENCE, "the broker answers"
        )
        self.start("worker", "--create-topics")
        self.wait_until_ready("web")
        self.run("sensors", "set", GPS)
        self.run("models", "set", WALKER)

    def first_posterior(self) -> str:
        return self.run("posteriors", "--from-beginning", "--count", "1", "--timeout", str(PATIENCE))


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def kafka(machine: Machine) -> str:
    machine.stream()
    machine.run("observe", "mower", "gps", "3", "4", "--no-wait")
    return machine.first_posterior()


def http(machine: Machine) -> str:
    machine.stream()
    machine.start("gateway")
    machine.wait_until_ready("gateway")
    body = json.dumps({"entity": "mower", "sensor": "gps", "time": time.time(), "value": [3, 4]}).encode()
    address = f"http://127.0.0.1:{machine.ports['gateway']}/v1"
    headers = {"Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{address}/observations", body, headers)).close()
    eventually(lambda: answers(f"{address}/posteriors/mower"), PATIENCE, "a posterior")
    with urllib.request.urlopen(f"{address}/posteriors/mower") as answer:
        return str(answer.read().decode())


def mqtt(machine: Machine) -> str:
    machine.stream()
    (machine.folder / "mapping.json").write_text(json.dumps(MAPPING))
    with Mosquitto(machine.folder) as mosquitto, publishing(mosquitto) as client:
        machine.start("bridge", "mqtt", str(machine.folder / "mapping.json"), "--port", str(mosquitto.port))
        machine.wait_until_ready("bridge")
        publish(client, [("mower/gps", {"value": [3, 4], "id": "1"})])
        return machine.first_posterior()


def definitions(machine: Machine) -> tuple[str, ...]:
    """The options of `fuse` for them."""
    (machine.folder / "sensors.yaml").write_text(GPS)
    (machine.folder / "models.yaml").write_text(WALKER)
    return "--sensors", "sensors.yaml", "--models", "models.yaml", "--set", "entity=mower"


def table(machine: Machine) -> str:
    with (machine.folder / "walk.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("time", "x", "y"), (1769860800, 3, 4)])
    return machine.run("fuse", "walk.csv", *definitions(machine), "--set", "sensor=gps", "--map", "value=x,y")


def bag(machine: Machine) -> str:
    write_bag(machine.folder / "drive.mcap", [Sent("/gps", "nav_msgs/msg/Odometry", odometry(0.0, 3, 4))])
    return machine.run("fuse", "drive.mcap", *definitions(machine))


Way = Callable[[Machine], str]
WAYS: dict[str, Way] = {
    "Kafka": kafka,
    "MQTT": mqtt,
    "HTTP": http,
    "CSV": table,
    "bag": bag,
}


def install(folder: Path) -> None:
    """Make a new environment with what all ways need."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    extras = f"{ROOT}[demo,gateway,mqtt,bags]"
    subprocess.run([folder / "bin/pip", "install", "--quiet", extras], check=True)


class Cost(NamedTuple):
    """Seconds until the first posterior, and of CPU time of all processes, which depends less on what else runs."""

    wall: float
    processor: float


def timed(way: Way, program: str, folder: Path, compiled: Path) -> Cost:
    """What the first posterior costs."""
    folder.mkdir()
    before = processor_seconds()
    with ExitStack() as running:
        began = time.monotonic()
        posterior = json.loads(way(Machine(program, folder, compiled, running)).splitlines()[0])
        seconds = time.monotonic() - began
    assert posterior["entity"] == "mower"
    return Cost(seconds, processor_seconds() - before)


def processor_seconds() -> float:
    """CPU time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--environment", type=Path, default=Path(sys.prefix))
    parser.add_argument("ways", nargs="*", default=[*WAYS])
    given = parser.parse_args()
    if not given.environment.exists():
        began = time.monotonic()
        install(given.environment)
        print(f"installed in {time.monotonic() - began:.0f} s", flush=True)
    program = str(given.environment / "bin/beliefstream")
    folder = Path(tempfile.mkdtemp(prefix="beliefstream-first-"))
    try:
        for name in given.ways:
            first, again = (
                timed(WAYS[name], program, folder / f"{name}-{number}", folder / name) for number in (1, 2)
            )
            print(
                f"{name}: first posterior after {first.wall:.0f} s ({first.processor:.0f} s of CPU), "
                f"again after {again.wall:.0f} s ({again.processor:.0f} s)",
                flush=True,
            )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
