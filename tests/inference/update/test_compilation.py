"""Compiled packages: the same answers, for every shape, and nothing is compiled while they are used."""

from __future__ import annotations

import shutil
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import torch

from beliefstream.inference.likelihood.noise import NoiseMixture
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture, pad
from beliefstream.inference.network.transformer import (
    Configuration,
    DistributionTransformer,
    duplicate_components,
)
from beliefstream.inference.network.weights import load
from beliefstream.inference.update import compilation, compiled_packages, importance
from beliefstream.inference.update.compilation import compile_network
from beliefstream.inference.update.compiled_network import Compiled
from beliefstream.inference.update.compiled_packages import package_path
from beliefstream.inference.update.settings import FAST
from beliefstream.inference.update.updater import Updater, UpdateSettings
from tests.conftest import CompiledNetwork
from tests.inference.problems import sampled

SHAPES = [(1, 1, 1), (1, 3, 2), (2, 1, 8), (5, 6, 3), (33, 2, 8), (200, 4, 5)]


def problems(batch: int, observations: int, components: int) -> tuple[GaussianMixture, Observations]:
    """Single precision, one coordinate, `observations` places of which the last is used in the first entity."""
    prior, seen, _ = sampled(batch, 1, seed=batch)
    places = torch.arange(observations) % seen.mask.shape[1]
    seen = seen.map(lambda tensor: tensor[:, places])
    first = torch.arange(observations) == 0
    prior = GaussianMixture(
        prior.log_weights[:, :components], prior.means[:, :components], prior.covariances[:, :components]
    )
    prior = pad(prior.normalised(), components).to(dtype=torch.float32)
    return prior, replace(seen, mask=seen.mask | first).to(dtype=torch.float32)


@pytest.fixture(scope="module")
def network(compiled_network: CompiledNetwork) -> DistributionTransformer:
    return load(str(compiled_network.weights))


@pytest.fixture(scope="module")
def compiled(network: DistributionTransformer, compiled_network: CompiledNetwork) -> Compiled:
    return Compiled(network, compiled_network.points, compiled_network.directory)


@pytest.mark.parametrize("walk", compiled_packages.WALKS)
@pytest.mark.parametrize(("batch", "observations", "components"), SHAPES)
@torch.inference_mode()
def test_every_shape_has_the_answers_of_the_uncompiled_network(
    network: DistributionTransformer,
    compiled: Compiled,
    compiled_network: CompiledNetwork,
    batch: int,
    observations: int,
    components: int,
    walk: tuple[int, int],
) -> None:
    prior, seen = problems(batch, observations, components)
    tokens = duplicate_components(prior, 8)
    found = compiled.answer(tokens, seen)
    assert found is not None
    expected = network(tokens, seen)
    for part, other in zip(found, expected, strict=True):
        torch.testing.assert_close(part, other, rtol=1e-3, atol=1e-3)
    walked = compiled.images(tokens, seen, *walk)
    images = importance.prior_images(tokens, seen, *walk)
    assert walked is not None
    torch.testing.assert_close(walked.means, images.means, rtol=1e-3, atol=1e-3)
    answer = GaussianMixture(expected.log_weights, expected.means, expected.factors @ expected.factors.mT)
    checked = compiled.check(prior, answer, images, seen)
    assert checked is not None
    weighted = importance.weigh(prior, answer, seen, images, compiled_network.points, importance.CHECK_SEED)
    for part, other in zip(checked, importance.quality(weighted), strict=True):
        torch.testing.assert_close(part.double(), other, rtol=1e-3, atol=1e-3)


def test_the_walks_compiled_are_those_of_the_settings() -> None:
    walks = [(settings.images, settings.image_rounds) for settings in (UpdateSettings(), FAST)]
    assert walks == list(compiled_packages.WALKS)


def test_an_update_uses_it_and_nothing_is_compiled_meanwhile(
    network: DistributionTransformer,
    compiled: Compiled,
    compiled_network: CompiledNetwork,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from torch._dynamo.utils import counters  # takes seconds, in every process that collects the tests

    used = []
    for name in ("answer", "images", "check"):
        original = getattr(compiled, name)

        def counted(*arguments: object, original: object = original) -> object:
            result = original(*arguments)  # type: ignore[operator]
            used.append(result is not None)
            return result

        monkeypatch.setattr(compiled, name, counted)
    settings = UpdateSettings(
        points=compiled_network.points, refine_below=0, defend_below=0, linear_below=0, quadrature_below=0
    )
    plain, fast = (
        Updater(network, settings=settings),
        Updater(network, settings=settings, compiled=compiled),
    )
    before = {name: dict(counter) for name, counter in counters.items()}
    for shape in SHAPES:
        prior, seen = problems(*shape)
        prior, seen = prior.to(dtype=torch.float64), seen.to(dtype=torch.float64)
        here, there = plain.update(prior, seen), fast.update(prior, seen)
        assert float((here.effective_sample_size - there.effective_sample_size).abs().max()) < 0.01
        means = [update.posterior.moments()[0] for update in (here, there)]
        torch.testing.assert_close(*means, rtol=1e-2, atol=1e-2)
    assert {name: dict(counter) for name, counter in counters.items()} == before
    assert len(used) >= 3 * len(SHAPES)
    assert all(used)


def test_what_there_is_is_not_compiled_again(
    network: DistributionTransformer, compiled_network: CompiledNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(compilation, "_compile")
    compile_network(network, 1, compiled_network.points, compiled_network.directory)


def test_other_weights_dimensions_and_points_have_packages_of_their_own(
    network: DistributionTransformer, compiled_network: CompiledNetwork
) -> None:
    place = compiled_network.directory
    paths = {
        package_path(network, 1, 16, place),
        package_path(network, 2, 16, place),
        package_path(network, 1, 96, place),
        package_path(load(), 1, 16, place),
    }
    assert len(paths) == 4
    assert not Compiled(network, 96, place).available(1)


@pytest.mark.parametrize(("place", "counts"), [("update", True), ("evaluation", False), ("training", False)])
def test_a_change_of_the_code_in_a_package_gives_another_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, counts: bool
) -> None:
    small = DistributionTransformer(Configuration(width=8, layers=1, heads=2, hidden=8))
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)
    (tmp_path / place).mkdir()
    before = compiled_packages.package_digest(small, 16)
    (tmp_path / place / "changed.py").write_text("changed = True")
    assert (compiled_packages.package_digest(small, 16) != before) is counts


def test_what_a_package_cannot_do_is_left_to_the_uncompiled_network(compiled: Compiled) -> None:
    prior, seen = problems(5, 2, 3)
    tokens = duplicate_components(prior, 8)
    shape = (*seen.mask.shape, 1)
    noise = NoiseMixture(torch.zeros(shape), torch.zeros(shape), torch.ones(shape))
    assert compiled.answer(tokens, replace(seen, mixture=noise)) is None
    assert compiled.answer(duplicate_components(prior, 16), seen) is None
    double = seen.to(dtype=torch.float64)
    assert compiled.answer(duplicate_components(prior.to(dtype=torch.float64), 8), double) is None
    two, plane, _ = sampled(5, 2)
    single = torch.float32
    assert compiled.answer(duplicate_components(two.to(dtype=single), 8), plane.to(dtype=single)) is None


@pytest.mark.parametrize("name", [compiled_packages.NETWORK, compiled_packages.CHECK])
@pytest.mark.parametrize("fault", ["cut", "damaged", "missing"])
def test_a_package_that_is_not_whole_is_found_before_a_stream_runs(
    network: DistributionTransformer,
    compiled_network: CompiledNetwork,
    tmp_path: Path,
    name: str,
    fault: str,
) -> None:
    points = compiled_network.points
    sound = package_path(network, 1, points, compiled_network.directory)
    place = tmp_path / sound.name
    shutil.copytree(sound, place)
    content = bytearray((place / name).read_bytes())
    if fault == "cut":
        (place / name).write_bytes(content[: len(content) // 2])
    elif fault == "damaged":
        content[len(content) // 2] ^= 0xFF
        (place / name).write_bytes(content)
    else:
        (place / name).unlink()
    with pytest.raises(ValueError, match=rf"compiled: .*{name} cannot be used: .*`beliefstream compile`"):
        Compiled(network, points, tmp_path).load_all()
    Compiled(network, points, compiled_network.directory).load_all()
    Compiled(network, points, tmp_path / "none").load_all()
