"""Builds a worker's updater from its settings."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from beliefstream.inference.network import weights
from beliefstream.inference.update.devices import DeviceCapacity, choose_device
from beliefstream.inference.update.settings import FAST, WORKER, UpdateSettings
from beliefstream.inference.update.updater import Updater
from beliefstream.streams.monitoring import compilation, metrics
from beliefstream.streams.settings import Accuracy, Settings

ACCURACIES: Mapping[Accuracy, UpdateSettings] = {
    "fast": FAST,
    "normal": WORKER,
    "thorough": UpdateSettings(),
}
"""What each accuracy stands for."""


def make_updater(settings: Settings) -> Updater:
    """Load the network on its device; raises FileNotFoundError or ValueError if the weights cannot be used."""
    torch.set_num_threads(settings.threads)
    network = weights.load(settings.weights)
    compilation.prepare()
    capacity = DeviceCapacity(lambda fallback: metrics.OUT_OF_MEMORY.labels(fallback).inc())
    return Updater(network, choose_device(settings.device), ACCURACIES[settings.accuracy], capacity=capacity)
