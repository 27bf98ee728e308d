"""README and docs/: examples run, links lead somewhere, and nothing is said that the code does not say."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer

import beliefstream
from beliefstream.schemas import Posterior, parse
from beliefstream.streams.cli.commands import app
from beliefstream.streams.definitions import own_code
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.settings import SECRETS, Settings
from research.figures.kept import read
from research.figures.pages import written
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.cli.conftest import (
    Run,
    run as run,  # the fixtures
    topics as topics,
)
from tests.streams.workers import COMMAND, Worker

pytestmark = pytest.mark.programs
ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CONTRIBUTING.md",
    *sorted(DOCS.glob("*.md")),
    *sorted((ROOT / "deploy").glob("*.md")),
]
OTHER_VARIABLES = {"BELIEFSTREAM_DATA"}  # of `research.recordings`, for a folder of recordings
PLANNED: set[str] = set()  # commands that the limits say are not there yet
OTHER_CLIENTS = {"confluent_kafka"}  # an example shows it, and nothing of ours needs it
BROKER = "localhost:9092"


def script(name: str) -> dict[str, Any]:
    """What a script of docs/ defines."""
    return runpy.run_path(str(DOCS / name))


def blocks(page: Path, language: str) -> list[str]:
    """The page's blocks of code in that language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def needs_broker(code: str) -> bool:
    return ":9092" in code


def python_blocks(with_broker: bool) -> list[Any]:
    return [
        pytest.param(code, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, code in enumerate(blocks(page, "python"))
        if needs_broker(code) is with_broker
    ]


@pytest.mark.parametrize("code", python_blocks(with_broker=False))
def test_an_example_without_a_broker_runs(code: str, tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("code", python_blocks(with_broker=True))
def test_an_example_with_a_broker_compiles_and_imports_what_there_is(code: str) -> None:
    tree = ast.parse(code)
    imports: list[ast.stmt] = [
        node
        for node in tree.body
        if isinstance(node, ast.Import)
        or (isinstance(node, ast.ImportFrom) and node.module not in OTHER_CLIENTS)
    ]
    exec(compile(ast.Module(imports, []), "example", "exec"), {})
    compile(tree, "example", "exec")


def test_the_quick_start_gives_a_posterior(tmp_path: Path) -> None:
    """README's program and the one about dead letters, on a broker and a worker as README starts them."""
    (program,) = (code for code in blocks(README, "python") if needs_broker(code))
    (letters,) = (code for code in blocks(DOCS / "dead-letters.md", "python") if needs_broker(code))
    names = Names("beliefstream", TopicNames.for_app("beliefstream"))
    with EmbeddedNode() as broker:
        worker = Worker(broker, names, tmp_path)
        worker.command = (*COMMAND, "--create-topics")
        worker.start()
        try:
            printed = example(program, broker)
            assert re.fullmatch(r"anna \[.*\] [\d.]+\n", printed)
            assert example(letters, broker) == ""
        finally:
            worker.terminate()


def example(code: str, broker: EmbeddedNode) -> str:
    """What a program prints on standard output, with the broker in place of that on the page."""
    assert BROKER in code
    program = code.replace(BROKER, broker.bootstrap_servers)
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_quick_start_is_the_same_on_both_pages() -> None:
    assert blocks(DOCS / "quickstart.md", "python")[0] == blocks(README, "python")[0]


def test_the_log_of_the_quick_start_can_be_fused(run: Run, tmp_path: Path) -> None:
    (log,) = blocks(DOCS / "quickstart.md", "json")
    (tmp_path / "log.jsonl").write_text(log)
    result = run("fuse", "log.jsonl", "--strict")
    assert result.status == 0, result.err
    posteriors = [parse(Posterior, line.encode()) for line in result.out.splitlines()]
    assert [posterior.time for posterior in posteriors] == [1769860800, 1769860801]


FILE = re.compile(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("files.md", ["fuse", "sensors", "models", "send", "replay"]),
        ("quickstart.md", ["sensors", "models", "send", "fuse"]),
    ],
)
def test_the_examples_with_files_run(
    page: str, expected: list[str], run: Run, topics: Names, tmp_path: Path
) -> None:
    """Each file on the page is there under its name; the commands between them run as they stand."""
    pytest.importorskip("scoringrules", reason="the energy score comes from it")
    for name, content in FILE.findall((DOCS / page).read_text(encoding="utf-8")):
        (tmp_path / name).write_text(content)
    lines = [line for block in blocks(DOCS / page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    commands = [words[1:] for line in lines if (words := shlex.split(line))[1:2] and words[1] in expected]
    assert [words[0] for words in commands] == expected
    for words in commands:
        result = run(*words)
        assert result.status == 0, result.err
    if page == "files.md":
        assert len((tmp_path / "posteriors.csv").read_text().splitlines()) == 1 + 4


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_json_is_json(page: Path) -> None:
    for block in blocks(page, "json"):
        try:
            json.loads(block)
        except ValueError:  # or else a line each
            assert [json.loads(line) for line in block.splitlines()]


def test_pages_that_are_written_from_the_code_are_those_of_the_code() -> None:
    for name, text in script("generate.py")["documents"]().items():
        assert (DOCS / name).read_text(encoding="utf-8") == text, "run: python docs/generate.py"


def test_the_picture_of_the_rooms_is_that_of_the_code() -> None:
    rooms = script("rooms.py")
    assert rooms["PAGE"].read_text(encoding="utf-8") == rooms["page"](), "run: python docs/rooms.py"


def test_every_name_of_the_package_is_in_its_reference() -> None:
    named = re.findall(r"^::: beliefstream\.(\w+)$", (DOCS / "python.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(beliefstream.__all__)


def test_the_site_shows_programs_with_their_code_formulas_typeset_and_the_notebook_as_a_page() -> None:
    assembled = script("assemble.py")
    page = assembled["translate"]("[mower.py](gallery/mower.py)\n", DOCS / "gallery.md")
    assert (DOCS / "gallery" / "mower.py").read_text(encoding="utf-8").rstrip() in page
    formula = assembled["translate"]("a $\\sqrt{s}$ and $HOME\n```\n$x$\n```\n", DOCS / "quality.md")
    assert re.fullmatch(r"a <math.*<msqrt>.*</math> and \$HOME\n```\n\$x\$\n```\n", formula)
    notebook = assembled["text"](DOCS / "ten-minutes.ipynb")
    assert notebook.startswith("# Ten minutes") and "```python\nimport numpy" in notebook


def test_every_setting_is_on_its_page_and_every_variable_on_a_page_is_there() -> None:
    variables = {f"BELIEFSTREAM_{name.upper()}" for name in Settings.model_fields}
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(BELIEFSTREAM_\w+)`", page, re.MULTILINE)) == variables
    assert own_code.SETTING in variables
    files = {f"BELIEFSTREAM_{name.upper()}_FILE" for name in SECRETS}
    for each in PAGES:
        named = set(re.findall(r"BELIEFSTREAM_[A-Z_]*[A-Z]", each.read_text(encoding="utf-8")))
        assert named <= variables | files | OTHER_VARIABLES, each.name


def test_every_command_on_a_page_is_there() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shell = [line for block in blocks(page, "sh") for line in block.splitlines()]
        code = [*shell, *re.findall(r"`([^`\n]+)`", text)]
        used = {word for line in code for word in re.findall(r"(?:^|/|\s)beliefstream ([a-z-]+)", line)}
        assert {word for word in used if not word.startswith("-")} <= commands | PLANNED, page.name
    assert not commands & PLANNED


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_a_page_runs_is_there(page: Path) -> None:
    named = set(re.findall(r"python -m (research[\w.]*\w)", page.read_text(encoding="utf-8")))
    assert [name for name in named if find_spec(name) is None] == []


def test_every_link_leads_somewhere_and_every_page_is_in_the_navigation() -> None:
    assembled = script("assemble.py")
    assert assembled["faults"]() == []
    assert assembled["missing"](README) == []
    assert len(assembled["links"](README.read_text(encoding="utf-8"))) > 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    pattern = r"`((?:schemas|inference|streams|research|tests|deploy|docs)/[\w/-]*(?:\.\w+|/))`"
    named = re.findall(pattern, page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def table(page: Path, head: str) -> list[list[str]]:
    """The rows of the table whose head begins so, a text for each cell."""
    lines = page.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(head)) + 2
    rows = takewhile(lambda line: line.startswith("|"), lines[first:])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def defined(place: Path) -> set[str]:
    """The names that a file defines, or those of a folder, `Fusion.process` among them."""
    files = place.rglob("*.py") if place.is_dir() else [place]
    return {name for file in files for name in names_in(ast.parse(file.read_text(encoding="utf-8")).body)}


def names_in(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{inner}" for inner in names_in(node.body))


WHERE = table(DOCS / "design.md", "| where is ...")


@pytest.mark.parametrize(("link", "what"), [pytest.param(*row[1:], id=row[1]) for row in WHERE])
def test_what_the_design_says_is_in_a_file_is_defined_there(link: str, what: str) -> None:
    (shown, target) = re.findall(r"^\[(.*)\]\((.*)\)$", link)[0]
    place = (DOCS / target).resolve()
    assert place == ROOT / shown
    assert place.exists()
    assert set(re.findall(r"`([^`]+)`", what)) <= defined(place)


@pytest.mark.parametrize("folder", ["streams", "inference"])
def test_the_design_says_what_is_in_every_room(folder: str) -> None:
    rows = table(DOCS / "design.md", f"| in `{folder}/`")
    named = [name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row[0])]
    rooms = [path.name for path in (ROOT / folder).iterdir() if not path.name.startswith(("__", "py.typed"))]
    assert sorted(named) == sorted(rooms)


def test_the_way_of_an_observation_takes_at_most_twelve_files() -> None:
    way = (DOCS / "design.md").read_text(encoding="utf-8").split("## From an observation's bytes")[1]
    steps = re.findall(r"^\d+\. `([\w/]+\.py)`: ", way.split("\n## ")[0], re.MULTILINE)
    assert 0 < len(steps) <= 12
    assert steps[-1] == "streams/definitions/models.py"


def test_a_link_of_the_repository_becomes_one_of_the_site() -> None:
    assembled = script("assemble.py")
    page = "[a](../docs/time.md#b) [c](SECURITY.md) [d](compose.yaml) [e](https://a.b/c)\n```\n[f](time.md)\n```\n"
    assert assembled["translate"](page, ROOT / "deploy" / "RUNBOOK.md") == (
        "[a](time.md#b) [c](security.md) d (`deploy/compose.yaml`) [e](https://a.b/c)\n```\n[f](time.md)\n```\n"
    )


def test_readme_is_read_in_five_minutes() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    assert max(map(len, lines)) <= 120


def test_readmes_figures_stand_on_the_pages_of_accuracy_and_speed() -> None:
    pages = "".join((DOCS / name).read_text(encoding="utf-8") for name in ("accuracy.md", "speed.md"))
    rows = [
        line.strip("|").split("|") for line in README.read_text(encoding="utf-8").splitlines() if "|" in line
    ]
    figures = [cell.strip() for row in rows for cell in row[1:] if re.fullmatch(r"[\d ./]{2,}", cell.strip())]
    assert len(figures) == 20
    shown = {cell.strip() for line in pages.splitlines() for cell in line.split("|")}
    assert set(figures) <= shown


def test_the_pages_show_the_figures_that_are_kept() -> None:
    for page, text in written(read()).items():
        assert page.read_text(encoding="utf-8") == text, f"{page}: python -m research.figures --only ''"
