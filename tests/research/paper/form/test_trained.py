from __future__ import annotations

from pathlib import Path

import pytest
import torch

from research.paper.form import trained
from research.paper.form.network import PublishedForm, Shape
from research.paper.tasks import TRAINED


def network() -> PublishedForm:
    return PublishedForm(Shape(1, 2, width=8, heads=2, hidden=8))


def test_weights_are_read_as_they_were_written(tmp_path: Path) -> None:
    written = network()
    trained.save(written, "variance", tmp_path)
    read = trained.load("variance", tmp_path).state_dict()
    for name, value in written.state_dict().items():
        torch.testing.assert_close(read[name], value, atol=0, rtol=0)


def test_weights_of_another_task_are_refused(tmp_path: Path) -> None:
    trained.save(network(), "quantum", tmp_path).rename(tmp_path / "variance.safetensors")
    with pytest.raises(ValueError, match="of the task 'quantum', not of 'variance'"):
        trained.load("variance", tmp_path)


def test_missing_weights_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--train --task variance"):
        trained.load("variance", tmp_path)


def test_a_file_that_is_no_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "variance.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be used"):
        trained.load("variance", tmp_path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    broken = network()
    torch.nn.init.constant_(broken.head.weight, torch.nan)
    trained.save(broken, "variance", tmp_path)
    with pytest.raises(ValueError, match=r"head\.weight has numbers that are not finite"):
        trained.load("variance", tmp_path)


@pytest.mark.parametrize("task", sorted(TRAINED))
def test_shipped_weights_fit_their_task_and_have_a_card(task: str) -> None:
    make, plan = TRAINED[task]
    made, shape = make(), trained.load(task).shape
    assert (shape.prior_numbers, shape.data_numbers) == (made.prior_numbers, made.data_numbers)
    card = (trained.SHIPPED / f"{task}.md").read_text(encoding="utf-8")
    assert f"| steps | {plan.steps:,} |" in card
    assert f"--train --task {task}" in card
    assert (trained.SHIPPED / f"{task}.safetensors").stat().st_size < 400_000
