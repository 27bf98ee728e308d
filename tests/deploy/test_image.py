"""The image is built and run: confined as in compose.yaml it gives a posterior, answers its probes and ends in time."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from beliefstream.schemas import Coordinate, Mixture, Model, PositionSensor, RandomWalk
from beliefstream.streams.client import PosteriorConsumer, Registry
from beliefstream.streams.kafka import topics
from beliefstream.streams.local.broker import EmbeddedBroker, free_port
from tests.conftest import eventually, unique_names
from tests.deploy.image import BuildFailed, Image, built, need_programs, seconds_to_end
from tests.deploy.test_deploy import DEPLOY
from tests.http_answers import ask_if_there
from tests.streams.cli.conftest import environment

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
PATIENCE = 120.0  # seconds
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
PACKAGES = "opt/beliefstream/lib/*/site-packages/"
CUDA = ("nvidia*", "cuda*", "triton*", "torch/lib/libtorch_cuda*", "torch/lib/libtorch_nvshmem*")
MOST_WITHOUT_CUDA = 1.5e9  # bytes
MB = 1e6


class Running:
    """A program of the image, and its pages."""

    def __init__(self, image: Image, name: str, variables: Mapping[str, str], port: int, log: Path) -> None:
        self.process = image.launch([name], variables, log)
        self._port, self._log = port, log

    def status(self, path: str, body: object = None) -> int:
        """Of the answer, to a POST where there is a body; 0 if nobody answers."""
        assert self.process.poll() is None, self._log.read_text()[-3000:]
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", data, headers)
        return ask_if_there(request).status

    def fact(self, name: str) -> str:
        """What the kernel says of the process."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith(f"{name}:"))


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """With everything, CUDA included."""
    need_programs()
    with built("all") as found:
        yield found


def test_a_worker_and_a_gateway_of_the_image_give_a_posterior_and_end_in_time(
    image: Image, tmp_path: Path
) -> None:
    names, began = unique_names(), time.monotonic()
    gateway_port, worker_port = free_port(), free_port()
    with EmbeddedBroker() as broker:
        topics.create(broker.bootstrap_servers, names.topics, partitions=3)
        define(broker.bootstrap_servers, names.topics)
        variables = {
            **SERVICES["worker"]["environment"],
            **environment(broker.bootstrap_servers, names),
            "BELIEFSTREAM_WEB_ADDRESS": f"127.0.0.1:{worker_port}",
            "BELIEFSTREAM_GATEWAY_ADDRESS": f"127.0.0.1:{gateway_port}",
            "BELIEFSTREAM_STORE": "rocksdb://",
        }
        worker = Running(image, "worker", variables, worker_port, tmp_path / "worker.log")
        gateway = Running(image, "gateway", variables, gateway_port, tmp_path / "gateway.log")
        try:
            eventually(lambda: worker.status("/readyz") == 200, PATIENCE, "the worker is ready")
            eventually(lambda: gateway.status("/readyz") == 200, PATIENCE, "the gateway is ready")
            ready = time.monotonic() - began
            body = {"entity": "mower", "sensor": "gps", "time": time.time(), "value": [3.0, 4.0]}
            assert gateway.status("/v1/observations", body) == 202
            with PosteriorConsumer(broker.bootstrap_servers, names.topics.posteriors, last=10) as consumer:
                found = eventually(lambda: consumer.poll(1.0), PATIENCE, "a posterior")
            assert found[0].entity == "mower"
            first = time.monotonic() - began
            assert_confined(worker)
            resident = int(worker.fact("VmRSS").split()[0]) * 1024
            probe = [
                part.replace(":8080/", f":{worker_port}/")
                for part in SERVICES["worker"]["healthcheck"]["test"][1:]
            ]
            assert run_in(image, probe, {}, tmp_path) == 0
            ends = {"worker": seconds_to_end(worker.process, grace("worker"))}
            ends["gateway"] = seconds_to_end(gateway.process, grace("gateway"))
            assert run_in(image, probe, {}, tmp_path) != 0
        finally:
            worker.process.kill()
            gateway.process.kill()
    assert (worker.process.returncode, gateway.process.returncode) == (0, 0)
    assert "native code" not in (tmp_path / "worker.log").read_text()  # which the image brings
    assert resident < memory_limit("worker")
    cuda = image.size_of(*(PACKAGES + name for name in CUDA))
    assert image.size() - cuda < MOST_WITHOUT_CUDA
    print(
        f"\nimage {image.size() / MB:.0f} MB, of which CUDA {cuda / MB:.0f} MB and the base "
        f"{(image.size() - image.size_of('opt')) / MB:.0f} MB; ready after {ready:.1f} s, first posterior after "
        f"{first:.1f} s; worker {resident / MB:.0f} MB of memory; SIGTERM to the end: worker {ends['worker']:.1f} s, "
        f"gateway {ends['gateway']:.1f} s"
    )


def define(servers: str, names: topics.TopicNames) -> None:
    """A mower on a plane, and its GPS."""
    with Registry(servers, names.sensors, names.models) as registry:
        registry.set_sensor(PositionSensor(sensor="gps", coordinates=("x", "y"), standard_deviation=2.0))
        registry.set_model(
            Model(
                entity="*",
                name="mower",
                motion=RandomWalk(spectral_density=1.0),
                coordinates=tuple(Coordinate(name=name, unit="m") for name in ("x", "y")),
                prior=Mixture.gaussian((0.0, 0.0), 100.0),
            )
        )


def assert_confined(running: Running) -> None:
    assert running.fact("Uid").split() == ["10001"] * 4
    assert int(running.fact("CapEff"), 16) == 0 and int(running.fact("CapBnd"), 16) == 0
    assert running.fact("NoNewPrivs") == "1"


def run_in(image: Image, command: list[str], variables: Mapping[str, str], folder: Path) -> int:
    """The exit status of another command, confined alike."""
    (other,) = [Image(image.name, image.root, {**image.settings, "Entrypoint": command})]
    return other.launch([], variables, folder / "other.log").wait(PATIENCE)


def grace(service: str) -> float:
    return float(SERVICES[service]["stop_grace_period"].removesuffix("s"))


def memory_limit(service: str) -> float:
    return float(SERVICES[service]["mem_limit"].removesuffix("m")) * 1024 * 1024


def test_the_image_is_that_of_a_user_and_writable_in_no_place_of_its_own(image: Image) -> None:
    assert image.settings["User"] == "10001:10001"
    assert (image.settings["Entrypoint"], image.settings["Cmd"]) == (["beliefstream"], ["worker"])
    command = ["find", str(image.root), "-xdev", "(", "-uid", "10001", "-o", "-gid", "10001", ")"]
    owned = subprocess.check_output(command, text=True).split()
    assert owned == [str(image.root / "data")]
    command = ["find", str(image.root), "-xdev", "-perm", "-o+w", "-not", "-type", "l"]
    found = subprocess.check_output(command, text=True).split()
    open_to_all = {str(Path(each).relative_to(image.root)) for each in found}
    assert {each for each in open_to_all if not each.startswith("dev/")} <= {"tmp", "var/tmp", "run/lock"}


def test_no_option_of_this_machines_package_index_is_in_the_image(image: Image) -> None:
    assert not (image.root / "etc/pip.conf").exists()
    assert not any(name.startswith("PIP_") for name in image.settings["Env"])


def test_an_image_for_bridges_alone_has_no_pytorch(tmp_path: Path) -> None:
    need_programs()
    with built("bridges", EXTRAS="gateway,mqtt") as found:
        assert run_in(found, ["beliefstream", "gateway", "--help"], {}, tmp_path) == 0
        assert not list(found.root.glob(f"{PACKAGES}torch"))
        print(f"\nimage for bridges alone {found.size() / MB:.0f} MB")


def test_an_image_without_cuda_is_small(tmp_path: Path) -> None:
    """Skipped where PyTorch's own index cannot be reached: PyPI's packages for Linux have CUDA."""
    need_programs()
    try:
        with built("cpu", CUDA="no") as found:
            assert not found.size_of(*(PACKAGES + name for name in CUDA))
            assert run_in(found, ["python", "-c", "import torch; torch.ones(1)"], {}, tmp_path) == 0
            print(f"\nimage without CUDA {found.size() / MB:.0f} MB")
            assert found.size() < MOST_WITHOUT_CUDA
    except BuildFailed as failure:
        if "No matching distribution found for torch" in str(failure):
            pytest.skip("PyTorch's index of packages for the CPU cannot be reached")
        raise
