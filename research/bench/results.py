"""What a benchmark has measured, as JSON for other programs."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from beliefstream.inference.training.card import processor
from research.bench.contradicted import Contradicted
from research.bench.devices import DeviceSpeed
from research.bench.end_to_end.latency import Latency
from research.bench.end_to_end.stream import Throughput
from research.bench.late_observations import Cost
from research.bench.update import Speed


def machine(device: str = "cpu") -> str:
    """The machine's processor and the number of its cores, and its GPU if that is the device."""
    graphics = f", {torch.cuda.get_device_name()}" if device == "cuda" else ""
    return f"{processor()}, {os.cpu_count()} cores{graphics}"


@dataclass
class Results:
    """All results of one run.

    Attributes:
        machine: the processor and the number of its cores; the GPU too if it was measured.
        updates: of the update alone.
        throughputs: by broker and workload.
        latencies: by broker.
        workers: observations a second by broker and number of workers.
        late: the cost of a late observation; the first is one on time.
        contradicted: what a fleet that is elsewhere at once costs.
        devices: of the update on one device, by family and size of the batch.
        path: the file that `save` writes; None for none.
    """

    updates: list[Speed] = field(default_factory=list)
    throughputs: dict[tuple[str, str], Throughput] = field(default_factory=dict)
    latencies: dict[str, Latency] = field(default_factory=dict)
    workers: dict[tuple[str, int], float] = field(default_factory=dict)
    late: list[Cost] = field(default_factory=list)
    contradicted: Contradicted | None = None
    devices: list[DeviceSpeed] = field(default_factory=list)
    machine: str = field(default_factory=machine)
    path: Path | None = None

    def content(self) -> dict[str, Any]:
        """The results by name.

        - `machine`: where they were measured.
        - `posteriors_per_second`: of the update alone, by name of the line.
        - `of_stone_soup`: the same as multiples of the first line, and `notes`: what each line is.
        - `of_the_echo`: the worker's speed as a share of the agent's that only forwards, by broker and reports an
          entity.
        - `cpu_of_the_echo`: the agent's processor time for an observation as a share of the worker's, likewise.
        - `observations_per_second`: by broker and reports, what was measured.
        - `latency_ms`: by broker.
        - `workers_per_second`: observations a second by broker and number of workers.
        - `of_one_worker`: the same as multiples of one worker.
        - `late`: times the cost of an observation on time, by how many newer ones the worker has had.
        - `contradicted`: observations a processor second, before and after a fleet is elsewhere at once, and the share.
        - `by_batch_size`: posteriors a second of the update on one device, the share of the time in which the GPU
          waits, and its memory in bytes.
        """
        shares: defaultdict[str, dict[str, float]] = defaultdict(dict)
        cpu: defaultdict[str, dict[str, float]] = defaultdict(dict)
        rates: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        workers: defaultdict[str, dict[int, float]] = defaultdict(dict)
        for (broker, number), rate in self.workers.items():
            workers[broker][number] = rate
        for (broker, workload), found in self.throughputs.items():
            shares[broker][workload] = found.of_the_echo
            cpu[broker][workload] = found.cpu_of_the_echo
            rates[broker][workload] = {
                "echo": found.echo.per_second,
                "worker": found.own,
                "posteriors": found.worker.per_second,
                "observations": found.observations,
            }
        return {
            "machine": self.machine,
            "posteriors_per_second": {line.name: line.per_second for line in self.updates},
            "of_stone_soup": {
                line.name: line.per_second / self.updates[0].per_second for line in self.updates
            },
            "notes": {line.name: line.note for line in self.updates},
            "of_the_echo": shares,
            "cpu_of_the_echo": cpu,
            "observations_per_second": rates,
            "latency_ms": {broker: each._asdict() for broker, each in self.latencies.items()},
            "workers_per_second": workers,
            "of_one_worker": {
                broker: {number: rate / several[1] for number, rate in several.items()}
                for broker, several in workers.items()
            },
            "late": {str(cost.newer): cost.milliseconds / self.late[0].milliseconds for cost in self.late},
            "contradicted": {} if self.contradicted is None else self.contradicted.as_dict(),
            "by_batch_size": [asdict(each) for each in self.devices],
        }

    def save(self) -> None:
        """Write what there is to the file, if there is one."""
        if self.path is not None:
            self.path.write_text(json.dumps(self.content(), indent=2) + "\n")
