"""Variables of the environment that are no setting, but are called almost like one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches

_SIMILAR = 0.8  # of names: `bacth` and `batch` are so similar
_OF_OTHERS = ("soak_seconds",)  # variables of `make soak`, not settings


class MisspeltSetting(ValueError):
    """A variable is called almost like a setting: what it should set, such as a token, would silently be absent."""


def check_spelling(variables: Iterable[str], prefix: str, settings: Collection[str]) -> None:
    """Raise MisspeltSetting if one of `variables` has the prefix and is almost, but not exactly, a setting.

    Args:
        variables: names of all variables, in any case.
        prefix: of the variables that are settings, in upper case.
        settings: names of the settings, in lower case.
    """
    if found := list(_misspelt({each.upper() for each in variables}, prefix, settings)):
        raise MisspeltSetting("; ".join(found))


def _misspelt(variables: Collection[str], prefix: str, settings: Collection[str]) -> Iterator[str]:
    for variable in sorted(variables):
        name = variable.removeprefix(prefix).lower()
        if variable.startswith(prefix) and name not in (*settings, *_OF_OTHERS):
            for near in get_close_matches(name, settings, 1, _SIMILAR):
                yield f"{variable}: there is no such setting; is it {prefix}{near.upper()}?"
