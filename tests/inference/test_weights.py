from __future__ import annotations

from pathlib import Path

import pytest
import torch

from inference import weights
from inference.transformer import Configuration, DistributionTransformer


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


def test_absent_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        weights.load(str(tmp_path / "none.safetensors"))


def test_the_shipped_weights_have_a_card_beside_them() -> None:
    card = weights.path_of().with_suffix(".md").read_text()
    assert weights.DEFAULT in card
    assert "beliefstream train" in card
