"""What the live page's benchmark sends and reads is what the page reads and sends."""

from __future__ import annotations

import time

import numpy as np
import pytest

from beliefstream.schemas import Posterior, parse
from beliefstream.streams.live import beliefs, reading, viewers
from beliefstream.streams.live.posteriors import groups_of, plain
from research.bench.end_to_end import live


def test_it_sends_posteriors_of_eight_components_that_differ() -> None:
    found = [parse(Posterior, before + b'"time":17.5' + after) for before, after in live._variants("e-1")]
    assert len({each.mixture for each in found}) == live.VARIANTS
    for each in found:
        assert (each.entity, each.time, each.mixture.components) == ("e-1", 17.5, 8)
        assert np.all(np.linalg.eigvalsh(np.asarray(each.mixture.covariances)) > 0)


def test_it_reads_topics_and_frames_as_the_page_does() -> None:
    assert (live.HEAD.format, live.BLOCK.format) == (viewers.FRAME.format, beliefs.BLOCK.format)
    assert live.FETCH_OPTIONS == reading.FETCH_OPTIONS
    before, after = live._variants("e-1")[0]
    now = time.time()
    posteriors = [parse(Posterior, before + f'"time":{now - ago}'.encode() + after) for ago in (1.0, 2.0)]
    groups = groups_of(enumerate(map(plain, posteriors)))
    blocks = [
        block for group in groups for block in beliefs.blocks_of(group, group.places, [now] * 2, ("x", "y"))
    ]
    frame = viewers.FRAME.pack(viewers.MAGIC, 1, now, 2, 0) + b"".join(blocks)
    assert live._delays(frame) == [pytest.approx(1.0, abs=0.5), pytest.approx(2.0, abs=0.5)]
