"""The digest of a function's sources changes with every file that it can come from, and with no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from beliefstream.inference.mixtures import native_cache

FILES = {
    "__init__.py": "",
    "own.py": "from beliefstream.inference.part import numbers\nimport beliefstream.inference.plain\n",
    "part/__init__.py": "from beliefstream.inference import shared as kept\n",
    "part/numbers.py": "import math\n\n\ndef late():\n    from beliefstream.inference.deep.names import SIZE\n",
    "deep/__init__.py": "",
    "deep/names.py": "from beliefstream.inference.own import ROUND  # a circle\nSIZE = 3\n",
    "shared.py": "",
    "plain.py": "from beliefstream.inference.stars import *\n",
    "stars.py": "",
    "other.py": "from beliefstream.inference import own\n",
    "part/other.py": "",
}
IMPORTED = set(FILES) - {"other.py", "part/other.py"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, source in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.setattr(native_cache, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("changed", FILES)
def test_a_change_of_an_imported_file_changes_the_digest(changed: str, root: Path) -> None:
    before = native_cache.digest(root / "own.py")
    (root / changed).write_text(f"{FILES[changed]}# changed\n")
    assert (native_cache.digest(root / "own.py") != before) == (changed in IMPORTED)


@pytest.mark.parametrize("name", ["deep/later.py", "kept.py"])
def test_a_new_file_that_nothing_imports_leaves_the_digest(name: str, root: Path) -> None:
    before = native_cache.digest(root / "own.py")
    (root / name).write_text("")
    assert native_cache.digest(root / "own.py") == before


def test_a_new_file_that_an_import_names_changes_the_digest(root: Path) -> None:
    before = native_cache.digest(root / "own.py")
    (root / "deep/names").mkdir()
    native_cache._files.cache_clear()
    (root / "deep/names/SIZE.py").write_text("")
    assert native_cache.digest(root / "own.py") != before


@pytest.mark.parametrize("changed", FILES)
def test_a_function_from_elsewhere_looks_at_all_files(
    changed: str, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "own.py"
    elsewhere.write_text("")
    before = native_cache.digest(elsewhere)
    (root / changed).write_text(f"{FILES[changed]}# changed\n")
    assert native_cache.digest(elsewhere) != before


def test_a_relative_import_is_refused(root: Path) -> None:
    (root / "shared.py").write_text("from . import other\n")
    with pytest.raises(ValueError, match="relative import"):
        native_cache.digest(root / "own.py")
