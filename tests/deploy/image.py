"""Builds the image of deploy/Dockerfile by buildah, and runs it as compose.yaml does, without a container runtime.

The base is Debian with its Python, by debootstrap, in place of the registry's. A container is a chroot with mounts of
its own: a read-only root, /data and /tmp in memory, no capabilities. It shares the host's network.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BASE = "localhost/beliefstream-test-base:bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
BUILD_SECONDS = 1500.0
# Options of pip and trusted certificates of this machine: needed to build, not to be in the image.
SECRETS = {"pip": Path("/etc/pip.conf"), "certificates": Path("/etc/ssl/certs/ca-certificates.crt")}
CONFINED = """
set -e
mount --make-rprivate /
mount --bind "$ROOT" "$ROOT"
mount -o remount,bind,ro "$ROOT"
mount -t tmpfs -o "mode=0700,uid=$USER_ID,gid=$GROUP_ID" tmpfs "$ROOT/data"
mount -t tmpfs -o mode=1777 tmpfs "$ROOT/tmp"
mount --rbind /dev "$ROOT/dev"
mount -t proc proc "$ROOT/proc"
exec chroot "$ROOT" setpriv --reuid "$USER_ID" --regid "$GROUP_ID" --clear-groups --no-new-privs \\
    --inh-caps=-all --bounding-set=-all -- env -i -C "$DIRECTORY" "$@"
"""


def need_programs() -> None:
    """Skips the test where an image cannot be built."""
    missing = [name for name in ("buildah", "debootstrap", "unshare") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(
            f"building an image needs root and {', '.join(missing) or 'nothing else'} (Debian's packages)"
        )


def buildah(*arguments: str | Path, timeout: float = 120.0) -> str:
    """Standard output; fails with what it wrote if it fails."""
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True, timeout=timeout, cwd=ROOT)
    if done.returncode != 0:
        raise BuildFailed(f"buildah {arguments[0]}: {done.stdout[-2000:]}{done.stderr[-3000:]}")
    return done.stdout.strip()


class BuildFailed(Exception):
    """buildah has failed; says what it wrote."""


def make_base() -> None:
    """Make the base image, if this machine has none."""
    if buildah("images", "--filter", f"reference={BASE}", "--quiet"):
        return
    with tempfile.TemporaryDirectory() as folder:
        command = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            pytest.skip(f"Debian's archive does not give a base: {done.stdout[-500:]}{done.stderr[-500:]}")
        Path(folder, "usr/bin/python").symlink_to("python3")  # as in the registry's
        shutil.rmtree(Path(folder, "var/cache/apt"))
        container = buildah("from", "scratch")
        try:
            buildah("add", "--quiet", container, folder, "/")
            buildah("commit", "--quiet", container, BASE)
        finally:
            buildah("rm", container)


@dataclass(frozen=True)
class Image:
    """A built image.

    Attributes:
        name: in buildah's storage.
        root: where its files are.
        settings: what it says of user, environment, directory and command, as Docker names them.
    """

    name: str
    root: Path
    settings: Mapping[str, Any]

    def size(self) -> int:
        """Bytes of its files."""
        return int(subprocess.check_output(["du", "-sxB1", self.root], text=True).split()[0])

    def size_of(self, *patterns: str) -> int:
        """Bytes of the files that match, below the root."""
        found = [each for pattern in patterns for each in self.root.glob(pattern)]
        return sum(
            int(subprocess.check_output(["du", "-sxB1", each], text=True).split()[0]) for each in found
        )

    def launch(
        self, arguments: Sequence[str], variables: Mapping[str, str], log: Path
    ) -> subprocess.Popen[bytes]:
        """Start its entrypoint; the process is the program itself, so that a signal reaches it."""
        user, group = self.settings["User"].split(":")
        environment = [*self.settings["Env"], *(f"{name}={value}" for name, value in variables.items())]
        outer = {"ROOT": str(self.root), "USER_ID": user, "GROUP_ID": group, "PATH": os.environ["PATH"]}
        outer["DIRECTORY"] = self.settings["WorkingDir"]
        command = [*environment, *self.settings["Entrypoint"], *arguments]
        with log.open("ab") as output:
            return subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", CONFINED, "sh", *command],
                env=outer,
                stdout=output,
                stderr=subprocess.STDOUT,
            )


@contextmanager
def built(name: str, **build_arguments: str) -> Iterator[Image]:
    """The image, while the context lasts; its layers are deleted after it.

    Raises:
        BuildFailed: with the end of what the build has written.
    """
    make_base()
    tag = f"localhost/beliefstream-test:{name}"
    options = [f"--build-arg={key}={value}" for key, value in {"BASE": BASE, **build_arguments}.items()]
    options += [f"--secret=id={name},src={path}" for name, path in SECRETS.items() if path.exists()]
    options += ["--isolation=chroot", "--format=docker", "--ignorefile=deploy/Dockerfile.dockerignore"]
    buildah("bud", *options, "--file=deploy/Dockerfile", f"--tag={tag}", ".", timeout=BUILD_SECONDS)
    container = buildah("from", "--pull-never", tag)
    try:
        settings = json.loads(buildah("inspect", "--type=image", tag))["Docker"]["config"]
        yield Image(tag, Path(buildah("mount", container)), settings)
    finally:
        buildah("rm", container)
        buildah("rmi", "--force", tag)


def seconds_to_end(process: subprocess.Popen[bytes], limit: float) -> float:
    """How long a process takes to end after SIGTERM; kills it, and raises TimeoutExpired, after the limit."""
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(limit)
    finally:
        process.kill()
        process.wait()
    return time.monotonic() - began
