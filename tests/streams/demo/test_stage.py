from __future__ import annotations

from pathlib import Path

import pytest

from beliefstream.streams.client import DefinitionConflict
from beliefstream.streams.demo.services import DemoServices, WorkerFigures, figures_of
from beliefstream.streams.kafka import topics
from beliefstream.streams.local.simulated_fleet import fleet_model
from beliefstream.streams.monitoring.scraping import Snapshot
from beliefstream.streams.settings import Settings
from tests.brokers import EmbeddedNode

PAGE = """\
# TYPE beliefstream_observations_total counter
beliefstream_observations_total{outcome="accepted"} 90.0
beliefstream_observations_total{outcome="rejected"} 3.0
# TYPE beliefstream_dead_letters_total counter
beliefstream_dead_letters_total{reason="not_json"} 2.0
beliefstream_dead_letters_total{reason="late"} 1.0
# TYPE beliefstream_update_seconds histogram
beliefstream_update_seconds_bucket{le="+Inf"} 7.0
beliefstream_update_seconds_count 7.0
beliefstream_update_seconds_sum 0.75
# TYPE beliefstream_build_info gauge
beliefstream_build_info{device="cpu",version="0.1"} 1.0
"""


def test_the_figures_of_a_worker_are_read_from_its_metrics() -> None:
    assert figures_of(Snapshot.of(PAGE)) == WorkerFigures(
        dead_letters={"not_json": 2, "late": 1},
        rejected=3,
        batches=7,
        update_seconds=0.75,
        device="cpu",
    )


def test_a_page_without_them_gives_none() -> None:
    assert figures_of(Snapshot.of("")) == WorkerFigures()


def test_the_demonstration_replaces_no_definition_that_is_there(tmp_path: Path) -> None:
    services = DemoServices(Settings(), tmp_path, lambda text: None)
    with EmbeddedNode() as broker:
        services.broker = broker
        topics.create(broker.bootstrap_servers)
        services.define([fleet_model()], [])
        services.define([fleet_model()], [])
        with pytest.raises(DefinitionConflict, match=r"model of '\*'"):
            services.define([fleet_model().model_copy(update={"components": 3})], [])
