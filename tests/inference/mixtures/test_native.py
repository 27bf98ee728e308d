"""Compiled code is kept for the next process, but never beyond a change of any native code."""

from __future__ import annotations

from pathlib import Path

import pytest

from beliefstream.inference.mixtures import native
from beliefstream.inference.mixtures.native import inner


@inner
def constant() -> int:
    return 7


def caller(number: int) -> int:
    return number + constant()


def compiled_from_cache(monkeypatch: pytest.MonkeyPatch, digest: str) -> bool:
    """Compile the function as a new process does whose native code has that digest; whether the cache had it."""
    monkeypatch.setattr(native, "sources_digest", lambda: digest)
    compiled = native.native(caller)
    assert compiled(1) == 8
    return bool(compiled.stats.cache_hits)  # type: ignore[attr-defined]


def test_code_is_taken_from_the_cache_only_if_no_native_code_has_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("numba.core.config.CACHE_DIR", str(tmp_path))
    assert not compiled_from_cache(monkeypatch, "before")
    assert compiled_from_cache(monkeypatch, "before")
    assert not compiled_from_cache(monkeypatch, "after")
    assert compiled_from_cache(monkeypatch, "after")
