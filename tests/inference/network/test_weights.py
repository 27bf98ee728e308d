from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from beliefstream.inference.network import weights
from beliefstream.inference.network.transformer import Configuration, DistributionTransformer


def test_a_saved_network_comes_back_as_it_was(tmp_path: Path) -> None:
    network = DistributionTransformer(Configuration(width=16, layers=2, heads=2, hidden=8))
    weights.save(network, tmp_path / "small.safetensors", {"seed": "0"})
    loaded = weights.load(str(tmp_path / "small.safetensors"))
    assert loaded.configuration == network.configuration
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_a_file_that_is_not_whole_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(weights.path_of().read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"cut\.safetensors"):
        weights.load(str(path))


def saved(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], object]) -> Path:
    """A small network's file, with its tensors and its configuration changed."""
    network = DistributionTransformer(Configuration(width=16, layers=2, heads=2, hidden=8))
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    described = {name: str(value) for name, value in network.describe().items()}
    change(tensors, described)
    save_file(tensors, path, {"configuration": json.dumps(described)})
    return path


NAME = "layers.0.block.mix_tokens.weight"
FAULTS: dict[str, tuple[Callable[[dict[str, torch.Tensor], dict[str, str]], object], str]] = {
    "shape": (
        lambda t, d: t.update({NAME: torch.zeros(3, 3)}),
        rf"{NAME} has the shape \(3, 3\).*\(16, 16\)",
    ),
    "missing": (lambda t, d: t.pop(NAME), f"there is no tensor {NAME}"),
    "other": (lambda t, d: t.update({"other": torch.zeros(1)}), "no tensor other"),
    "infinite": (lambda t, d: t[NAME].fill_(torch.inf), f"{NAME} has numbers that are not finite"),
    "undescribed": (lambda t, d: d.clear(), "does not say its 'width'"),
    "impossible": (lambda t, d: d.update(heads="3"), "there is no network with .*'heads': 3"),
    "nonsense": (lambda t, d: d.update(heads="many"), "many"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_of_another_shape_is_refused_in_one_line(fault: str, tmp_path: Path) -> None:
    change, reason = FAULTS[fault]
    path = saved(tmp_path / f"{fault}.safetensors", change)
    with pytest.raises(
        ValueError, match=rf"^weights: .*{fault}\.safetensors cannot be used: .*{reason}"
    ) as error:
        weights.load(str(path))
    assert "\n" not in str(error.value)


def test_absent_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        weights.load(str(tmp_path / "none.safetensors"))


def test_the_shipped_weights_have_a_card_beside_them() -> None:
    card = weights.path_of().with_suffix(".md").read_text()
    assert weights.DEFAULT in card
    assert "beliefstream train" in card
