"""Builds a worker's updater from its settings."""

from __future__ import annotations

from dataclasses import replace

import torch

from beliefstream.inference.network import weights
from beliefstream.inference.update.devices import DeviceCapacity, choose_device
from beliefstream.inference.update.settings import FAST
from beliefstream.inference.update.updater import Updater, UpdateSettings
from beliefstream.streams.monitoring import compilation, metrics
from beliefstream.streams.settings import Settings


def make_updater(settings: Settings) -> Updater:
    """Load the network on its device; raises FileNotFoundError or ValueError if the weights cannot be used."""
    torch.set_num_threads(settings.threads)
    accuracy = UpdateSettings(
        points=settings.points, refine_below=settings.refine_below, repeat_below=settings.repeat_below
    )
    if settings.fast:
        accuracy = replace(FAST, points=settings.points)
    dtype = torch.float64 if settings.precision == "double" else torch.float32
    network = weights.load(settings.weights)
    compilation.prepare()
    capacity = DeviceCapacity(lambda fallback: metrics.OUT_OF_MEMORY.labels(fallback).inc())
    return Updater(network, choose_device(settings.device), accuracy, dtype, capacity)
