"""Gathers the pages of the site in build/docs/, and its configuration in build/, from where zensical builds it.

The runbook and the notes on security stay beside what they are about, in `deploy/`, and the changelog at the top. The
site shows each as a page. Links are written as they work in the repository, and are translated here to links of the
site. `python docs/assemble.py` exits with 1 if a link leads nowhere, or if the navigation and the pages differ.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
ELSEWHERE = {
    "runbook.md": "deploy/RUNBOOK.md",
    "security.md": "deploy/SECURITY.md",
    "changelog.md": "CHANGELOG.md",
}
"""Pages of the site that lie elsewhere in the repository."""

LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
FENCED = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)


def pages() -> dict[str, Path]:
    """The file of each page of the site by its name."""
    return {path.name: path for path in sorted(DOCS.glob("*.md"))} | {
        name: ROOT / path for name, path in ELSEWHERE.items()
    }


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
    for target in links(source.read_text(encoding="utf-8")):
        path, _, _ = target.partition("#")
        if path and ":" not in path and not (source.parent / path).exists():
            found.append(target)
    return found


def translate(markdown: str, source: Path) -> str:
    """A file of the repository with links as of the site; a link to a file that is no page becomes its name."""
    places = {str(path): name for name, path in pages().items()}

    def translated(link: re.Match[str]) -> str:
        text, target = link["text"], link["target"]
        path, mark, anchor = target.partition("#")
        if not path or ":" in path or link["image"]:
            return link[0]
        place = os.path.normpath(source.parent / path)
        if place in places:
            return f"[{text}]({places[place]}{mark}{anchor})"
        where = os.path.relpath(place, ROOT)
        return f"`{where}`" if text.strip("`") == where else f"{text} (`{where}`)"

    parts = FENCED.split(markdown)
    parts[::2] = [LINK.sub(translated, part) for part in parts[::2]]
    return "".join(parts)


def faults() -> list[str]:
    """What is wrong with links and navigation, a line each."""
    lines = [
        f"{path.relative_to(ROOT)}: no {target}" for path in pages().values() for target in missing(path)
    ]
    named = navigation()
    lines += [f"zensical.toml: {name} is not in the navigation" for name in pages() if named.count(name) != 1]
    return lines + [f"zensical.toml: there is no {name}" for name in named if name not in pages()]


def assemble(target: Path) -> None:
    """Write the configuration, the pages and the pictures of the site into a directory."""
    folder = target / "docs"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "zensical.toml", target)
    for name, path in pages().items():
        (folder / name).write_text(translate(path.read_text(encoding="utf-8"), path), encoding="utf-8")
    for picture in DOCS.glob("*.png"):
        shutil.copy(picture, folder)


if __name__ == "__main__":
    if found := faults():
        sys.exit("\n".join(found))
    assemble(ROOT / "build")
