"""What counts as a failure of the user's own code: a measurement function, a problem, or a module with them."""

from __future__ import annotations

FAILURES = (Exception, SystemExit)
"""What such code may raise: `sys.exit` in it must not end the program. Ctrl-C is no failure, and does end it."""


def explanation(error: BaseException) -> str:
    """What an error says, never an empty text; of `sys.exit` that it was called."""
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({'' if error.code is None else repr(error.code)})"
    return str(error) or type(error).__name__
