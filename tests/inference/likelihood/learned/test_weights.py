"""Files of learned likelihoods: what is written is read, and what does not fit is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from beliefstream.inference.likelihood.learned import weights
from beliefstream.inference.likelihood.learned.network import LearnedLikelihood
from beliefstream.inference.likelihood.learned.training_range import TrainingRange
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from tests.inference.likelihood.learned.simulators import COUNTER, Counter, untrained


@pytest.fixture
def file(tmp_path: Path) -> Path:
    learned, _ = untrained(Counter(), COUNTER)
    weights.save(learned, tmp_path / "Counter.safetensors", {"seed": "0"})
    return tmp_path / "Counter.safetensors"


def load(path: Path, sha256: str | None = None, **changes: Any) -> Any:
    problem = type("Counter", (Counter,), changes)()
    return weights.load(path, COUNTER, ProblemFunction.of(problem), sha256)


def test_what_is_written_is_read(file: Path) -> None:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    found, (learned, _) = load(file, digest), untrained(Counter(), COUNTER)
    at = torch.zeros(3, 2, dtype=torch.float64)
    numbers = torch.tensor([[7.0, 1.0, 2.0]], dtype=torch.float64).expand(3, -1)
    assert torch.equal(found(at, numbers), learned(at, numbers))
    assert found.digest == digest and found.expected_error == 0.25
    assert torch.equal(found.highest, learned.highest)


def test_a_missing_file_is_told_with_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"weights: .*no\.safetensors cannot be read: No such file.*beliefstream train"
    ):
        load(tmp_path / "no.safetensors")


def test_another_digest_is_refused(file: Path) -> None:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=f"sha256: .* has the digest {found}, expected {'0' * 64}"):
        load(file, "0" * 64)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        (
            {"parameters": {"x": "real", "strength": "real"}},
            "its parameters is .*'strength': 'positive'.*expected",
        ),
        ({"data": {"counts": "count"}}, "its data is {'count': 'count'}, expected {'counts': 'count'}"),
        (
            {"context": ("place", "hours")},
            r"its context is \['place', 'seconds'\], expected \['place', 'hours'\]",
        ),
    ],
)
def test_weights_of_a_problem_with_other_names_are_refused(
    file: Path, changes: dict[str, Any], shown: str
) -> None:
    with pytest.raises(ValueError, match=f"weights: .* are of another problem: {shown}"):
        load(file, **changes)


def test_weights_of_reports_with_other_rows_are_refused(file: Path) -> None:
    with pytest.raises(ValueError, match=r"its rows is \['one', 1\], expected \['set', 3\]"):
        load(file, rows=("set", 3))


def features(*names: str) -> Any:
    """A problem's features: its parameters of these names."""
    return lambda self, parameters, context: {name: parameters[name] for name in names}


def test_weights_keep_the_range_of_features_and_refuse_others(tmp_path: Path, file: Path) -> None:
    one = ProblemFunction.of(type("Counter", (Counter,), {"features": features("x")})())
    plain, _ = untrained(Counter(), COUNTER)
    known = TrainingRange(torch.tensor([-5.0]).double(), torch.tensor([5.0]).double())
    made = LearnedLikelihood(plain.names, plain.laws, plain.trained_on, plain.shape, (one.features, known))
    made.expected_error = 0.25
    made.lowest, made.highest = plain.lowest, plain.highest
    weights.save(made.double(), tmp_path / "one.safetensors", {})
    found = weights.load(tmp_path / "one.safetensors", COUNTER, one)
    at = torch.tensor([[1.0, 0.5], [1.0, 2.0], [2.0, 0.5]], dtype=torch.float64)
    first, second, third = found(at, torch.tensor([[7.0, 1.0, 2.0]]).double().expand(3, -1)).tolist()
    assert first == second != third
    with pytest.raises(ValueError, match="another problem: it has 1 features, expected 2"):
        load(tmp_path / "one.safetensors", features=features("x", "strength"))
    with pytest.raises(ValueError, match="features: it has 1, and the problem none"):
        load(tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match="features: it has 0, and the problem some"):
        load(file, features=features("x"))


def test_weights_of_another_problem_are_refused(file: Path) -> None:
    with pytest.raises(ValueError, match=f"its problem is {COUNTER}, expected other:Counter"):
        weights.load(file, "other:Counter", ProblemFunction.of(Counter()))


def damaged(file: Path, what: str) -> None:
    content = file.read_bytes()
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
    described = json.loads(header["likelihood"])
    if what == "nan":
        tensors["networks.0.0.bias"][0] = torch.nan
    elif what == "shape":
        tensors["networks.0.0.bias"] = torch.zeros(3)
    elif what == "law":
        described["laws"][0]["law"] = "table"
    elif what == "error":
        described["expected_error"] = -1.0
    else:
        del described["laws"]
    safetensors.torch.save_file(tensors, file, {"likelihood": json.dumps(described)})


@pytest.mark.parametrize(
    ("what", "shown"),
    [
        ("nan", "networks.0.0.bias has numbers that are not finite"),
        ("shape", "size mismatch for networks.0.0.bias"),
        ("law", "law: 'table' is unknown"),
        ("error", "expected_error must be a number from 0 on, got -1.0"),
        ("missing", "it does not say its 'laws'"),
    ],
)
def test_a_damaged_file_is_refused(file: Path, what: str, shown: str) -> None:
    damaged(file, what)
    with pytest.raises(ValueError, match=f"(?s)weights: .* cannot be used: .*{shown}"):
        load(file)


@pytest.mark.parametrize("content", [b"", b"not a file of weights at all", b"\x00" * 100])
def test_another_kind_of_file_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights: .* cannot be used"):
        load(file)
