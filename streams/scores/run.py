"""Scores one recording with every method."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from beliefstream.inference.tracking.filtering import Outcome
from beliefstream.inference.update.updater import Updater
from beliefstream.streams.local.offline_log import Fused
from beliefstream.streams.scores.measures import Row, Scores, row_of
from beliefstream.streams.scores.methods import OURS, ScoredMethod, run, score_ours
from beliefstream.streams.scores.recording import Recording
from beliefstream.streams.scores.tracks import log_of, tracks_of

Progress = Callable[[str, int], None]  # takes the method and the total, after each instant


def _silent(method: str, total: int) -> None:
    """Show no progress."""


def score(
    recording: Recording,
    updater: Updater,
    progress: Progress = _silent,
    take: Callable[[Fused], None] | None = None,
    methods: tuple[ScoredMethod, ...] = (),
) -> list[Row]:
    """Return the scores of our method and of `methods`; `take` is called with each of our posteriors."""
    log = log_of(recording)
    tracks = tracks_of(recording, log)
    cases, instants = sum(len(t.cases) for t in tracks), sum(len(t.instants) for t in tracks)
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    taken, began = 0.0, time.perf_counter()
    for fused in log.fuse(updater):
        paused = time.perf_counter()
        outcomes[fused.entity].append(fused.outcome)
        if take is not None:
            take(fused)
        progress(OURS, instants)
        taken += time.perf_counter() - paused
    log.require_no_failure()
    seconds = time.perf_counter() - began - taken
    scores = Scores(cases)
    score_ours(tracks, outcomes, scores)
    rows = [row_of(scores.found, recording.name, OURS, instants / seconds, recording.lost_beyond)]
    for method in methods:
        theirs = Scores(cases)
        spent = sum(run(method, track, theirs, partial(progress, method.name, instants)) for track in tracks)
        row = row_of(theirs.found, recording.name, method.name, instants / spent, recording.lost_beyond)
        over, error = theirs.over(scores)
        rows.append(replace(row, over_ours=over, over_ours_error=error))
    return rows
