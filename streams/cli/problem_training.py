"""What the trainings of a problem share: options, the run, and its errors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from beliefstream.streams.cli.errors import CommandError

if TYPE_CHECKING:
    from beliefstream.inference.likelihood.problem_functions import ProblemFunction
    from beliefstream.inference.training.run import Run

T = TypeVar("T", bound="Run[Any]")


def given(options: dict[str, Any], allowed: Collection[str], form: str) -> dict[str, Any]:
    """Return the options that are given; raises CommandError for one that `form` does not use."""
    found = {name: value for name, value in options.items() if value is not None}
    for name in found:
        if name not in allowed:
            raise CommandError(f"--{name.replace('_', '-')}: not used with {form}")
    return found


def train_problem(
    problem: str,
    checkpoint: Path,
    stop_after: float | None,
    start: Callable[[ProblemFunction], T],
    write: Callable[[T], None],
) -> None:
    """Train, or go on, and write the result when the plan is complete.

    Args:
        start: makes the training of the problem.
        write: called with a training that is complete.

    Raises:
        CommandError: the problem is unknown, its simulator fails, or the training diverges.
    """
    from beliefstream.inference.likelihood.problem_functions import ProblemFunction
    from beliefstream.inference.likelihood.problems import ProblemError
    from beliefstream.inference.training.run import Diverged
    from beliefstream.streams.cli.train import run
    from beliefstream.streams.definitions import measurement_modules, problems

    try:
        measurement_modules.load(problem.partition(":")[0])
        training = start(ProblemFunction.of(problems.find(problem)))
        if not run(training, checkpoint, stop_after):
            return
        print(f"trained {training.step} steps in {training.seconds:.0f} s")
        write(training)
    except (ProblemError, Diverged, ValueError) as error:
        raise CommandError(f"--problem: {error}") from error


def changed_options(plan: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The options that change a plan's defaults into its fields."""
    options = ""
    for name, value in plan.items():
        if value != defaults[name]:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            options += f" --{name.replace('_', '-')} {text}"
    return options
