"""Options in groups: a command takes a frozen dataclass, whose fields are options of the command line.

Several commands can share a group, as those that read files of observations share `options.Columns`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """Return a command for typer, whose options are the parameters of `function`.

    In place of a parameter that is a dataclass stand the dataclass's fields, which are annotated as typer's options
    are. `function` gets the dataclass.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    options = [
        option
        for parameter in signature(function).parameters.values()
        for option in _options(parameter, hints[parameter.name])
    ]

    @wraps(function)
    def command(**given: Any) -> None:
        made = {
            name: group(**{each.name: given.pop(each.name) for each in fields(group)})
            for name, group in groups.items()
        }
        function(**given, **made)

    del command.__wrapped__  # typer would read the options of `function` through it
    command.__signature__ = Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {option.name: option.annotation for option in options}
    return command


def _options(parameter: Parameter, hint: Any) -> Iterator[Parameter]:
    """The options of one parameter: itself, or the fields of its dataclass."""
    if not is_dataclass(hint):
        yield parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hint)
        return
    own = get_type_hints(hint, include_extras=True)
    for each in fields(hint):
        yield Parameter(each.name, Parameter.KEYWORD_ONLY, default=_default(each), annotation=own[each.name])


def _default(field: Field[Any]) -> Any:
    return Parameter.empty if field.default is MISSING else field.default
