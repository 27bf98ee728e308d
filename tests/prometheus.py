"""Prometheus for the tests: the machine's own, or else Debian's package, unpacked into the cache without root."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from beliefstream.streams.local.broker import GuardedProcess, free_port
from tests.conftest import eventually

CACHE = Path(__file__).parent.parent / ".cache" / "prometheus"
DOWNLOAD_SECONDS = 120.0


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test where neither the machine nor Debian's archive has it."""
    if (path := shutil.which(name)) is not None:
        return path
    unpacked = CACHE / "usr" / "bin" / name
    if not unpacked.exists() and (reason := _unpack()):
        pytest.skip(f"there is no `{name}` on this machine, and it cannot be fetched: {reason}")
    return str(unpacked)


def _unpack() -> str:
    """Fetches and unpacks the package; returns why it could not."""
    missing = [name for name in ("apt-get", "dpkg") if shutil.which(name) is None]
    if missing:
        return f"there is no {missing[0]} either"
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE.parent) as aside:
        folder = Path(aside)
        # lists of our own, for those of the machine may be absent or old, and are root's
        for name in ("state/lists/partial", "cache/archives/partial", "package"):
            (folder / name).mkdir(parents=True)
        options = [f"-oDir::State={folder}/state", f"-oDir::Cache={folder}/cache", "-oAPT::Sandbox::User="]
        for command in (["update"], ["download", "prometheus"]):
            try:
                done = subprocess.run(
                    ["apt-get", "-q", *options, *command],
                    cwd=folder / "package",
                    capture_output=True,
                    text=True,
                    timeout=DOWNLOAD_SECONDS,
                )
            except subprocess.TimeoutExpired:
                return f"apt-get {command[0]} takes too long"
            if done.returncode != 0:
                return f"apt-get {command[0]}: {' '.join(done.stderr.split())[:200]}"
        found = list((folder / "package").glob("prometheus_*.deb"))
        if not found:
            return "apt-get has no package prometheus"
        subprocess.run(["dpkg", "-x", str(found[0]), str(folder / "tree")], check=True)
        if not CACHE.exists():
            (folder / "tree").rename(CACHE)
    return ""


class Prometheus:
    """A running Prometheus, asked over HTTP."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self._url}{path}", timeout=5) as answer:
                return json.loads(answer.read())["data"]
        except OSError:
            return None

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        found = self._get("/api/v1/alerts")
        return (
            {each["labels"]["alertname"] for each in found["alerts"] if each["state"] == "firing"}
            if found
            else set()
        )

    def values(self, expression: str) -> list[float]:
        """Of all series of an expression now; raises ValueError if Prometheus refuses the expression."""
        url = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                found = json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{expression}: {error.read().decode()}") from None
        pairs = (
            [found["result"]] if found["resultType"] == "scalar" else [s["value"] for s in found["result"]]
        )
        return [float(value) for _, value in pairs]

    def value(self, expression: str) -> float | None:
        """Of an expression now; None if there is none."""
        found = self._get(f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
        return float(found["result"][0]["value"][1]) if found and found["result"] else None


@contextmanager
def prometheus(rules: dict[str, Any], target: str, folder: Path, interval: str) -> Iterator[Prometheus]:
    """Prometheus with these rules, which scrapes one target as `deploy/prometheus/prometheus.yml` has it.

    Args:
        target: host:port.
        folder: for its files. interval: of scraping and evaluating.
    """
    port = free_port()
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    job = {"job_name": "beliefstream", "static_configs": [{"targets": [target]}]}
    every = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
    settings = {"global": every, "rule_files": ["rules.yml"], "scrape_configs": [job]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    command = [
        program("prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    log = folder / "prometheus.log"
    process = GuardedProcess(command, grace=5, output=log.open("ab"))
    try:
        running = Prometheus(port)
        eventually(lambda: running.value("up") is not None, 30, f"Prometheus scrapes; see {log}")
        yield running
    finally:
        process.stop(5)
