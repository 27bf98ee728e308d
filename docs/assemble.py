"""Gathers the pages of the site in build/docs/, and its configuration in build/, from where zensical builds it.

The runbook and the notes on security stay beside what they are about, in `deploy/`, and the changelog and
`CONTRIBUTING.md` at the top. The site shows each as a page, and the notebook too. Links are written as they work in the
repository, and are translated here to links of the site; a link to a program, alone on its line, becomes its code and
what `docs/outputs.py` kept of it. `python docs/assemble.py` exits with 1 if a link leads nowhere, or if the navigation
and the pages differ.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
OUTPUTS = ROOT / "build" / "outputs"
ELSEWHERE = {
    "ten-minutes.md": "docs/ten-minutes.ipynb",
    "runbook.md": "deploy/RUNBOOK.md",
    "security.md": "deploy/SECURITY.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
"""Pages of the site that are another file of the repository."""

LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
PROGRAM = re.compile(r"^\[[^\]]*\]\((?P<path>[\w/]+\.py)\)$", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal
FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
FORMULA = re.compile(r"(?<![\\$`\w])\$(?P<latex>[^\s$`](?:[^$`]*[^\s$`])?)\$(?![\w$])")


def pages() -> dict[str, Path]:
    """The file of each page of the site by its name."""
    return {path.name: path for path in sorted(DOCS.glob("*.md"))} | {
        name: ROOT / path for name, path in ELSEWHERE.items()
    }


def text(path: Path) -> str:
    """The Markdown of a page; a notebook has its outputs where `docs/outputs.py` has run it."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    executed = OUTPUTS / path.name
    notebook = json.loads((executed if executed.exists() else path).read_text(encoding="utf-8"))
    return "\n\n".join(_cell(cell) for cell in notebook["cells"]) + "\n"


def _cell(cell: dict[str, Any]) -> str:
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return source
    parts = [_code("python", source)]
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            parts.append(_code("text", COLOUR.sub("", "".join(output["text"])).rstrip()))
        elif picture := output["data"].get("image/png"):
            parts.append(f"![The figure](data:image/png;base64,{''.join(picture.split())})")
    return "\n\n".join(parts)


def _code(language: str, code: str) -> str:
    return f"```{language}\n{code}\n```"


def _program(source: Path) -> str:
    """A program of the gallery: its picture, what it prints, and its code."""
    parts = [_code("python", source.read_text(encoding="utf-8").rstrip())]
    if (printed := OUTPUTS / f"{source.stem}.txt").exists():
        parts.insert(0, f"![{source.stem}]({source.stem}.png)")
        parts.append(f"It prints\n\n{_code('text', printed.read_text(encoding='utf-8').rstrip())}")
    return "\n\n".join(parts)


def navigation() -> list[str]:
    """The pages that the navigation of the site names."""
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    return list(_named(config["project"]["nav"]))


def _named(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
        return
    for below in part.values() if isinstance(part, dict) else part:
        yield from _named(below)


def links(markdown: str) -> list[str]:
    """The targets of all links and images, but for those in blocks of code."""
    text = "".join(FENCED.split(markdown)[::2])
    return [link["target"] for link in LINK.finditer(text)]


def missing(source: Path) -> list[str]:
    """The links of a file whose targets are not in the repository; addresses are not looked at."""
    found = []
    for target in links(text(source)):
        path, _, _ = target.partition("#")
        if path and ":" not in path and not (source.parent / path).exists():
            found.append(target)
    return found


def translate(markdown: str, source: Path) -> str:
    """A file of the repository with links as of the site; a link to a file that is no page becomes its name."""
    places = {str(path): name for name, path in pages().items()}

    def translated(link: re.Match[str]) -> str:
        words, target = link["text"], link["target"]
        path, mark, anchor = target.partition("#")
        if not path or ":" in path or link["image"]:
            return link[0]
        place = os.path.normpath(source.parent / path)
        if place in places:
            return f"[{words}]({places[place]}{mark}{anchor})"
        where = os.path.relpath(place, ROOT)
        return f"`{where}`" if words.strip("`") == where else f"{words} (`{where}`)"

    markdown = PROGRAM.sub(lambda link: _program(source.parent / link["path"]), markdown)
    parts = FENCED.split(markdown)
    parts[::2] = [LINK.sub(translated, FORMULA.sub(_typeset, part)) for part in parts[::2]]
    return "".join(parts)


def _typeset(formula: re.Match[str]) -> str:
    return str(convert(" ".join(formula["latex"].split())))


def faults() -> list[str]:
    """What is wrong with links and navigation, a line each."""
    lines = [
        f"{path.relative_to(ROOT)}: no {target}" for path in pages().values() for target in missing(path)
    ]
    named = navigation()
    lines += [f"zensical.toml: {name} is not in the navigation" for name in pages() if named.count(name) != 1]
    return lines + [f"zensical.toml: there is no {name}" for name in named if name not in pages()]


def assemble(target: Path) -> None:
    """Write the configuration, the pages, the pictures and the styles of the site into a directory."""
    folder = target / "docs"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "zensical.toml", target)
    for name, path in pages().items():
        (folder / name).write_text(translate(text(path), path), encoding="utf-8")
    for beside in [*DOCS.glob("*.png"), *DOCS.glob("*.webp"), *DOCS.glob("*.css"), *OUTPUTS.glob("*.png")]:
        shutil.copy(beside, folder)


if __name__ == "__main__":
    if found := faults():
        sys.exit("\n".join(found))
    assemble(ROOT / "build")
