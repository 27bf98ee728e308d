"""The update timed on a device, for few problems."""

from __future__ import annotations

from beliefstream.inference.network.transformer import DistributionTransformer
from beliefstream.inference.update.updater import Updater
from research.bench.devices import measure_device


def test_each_family_and_size_has_its_speed_and_a_processor_has_no_gpu_to_wait() -> None:
    found = measure_device(Updater(DistributionTransformer()), (2, 3))
    assert [(each.family, each.size) for each in found] == [
        ("tracks", 2),
        ("tracks", 3),
        ("planar family", 2),
        ("planar family", 3),
    ]
    for each in found:
        assert each.per_second > 0
        assert (each.waiting, each.memory) == (None, None)
