"""What `native_polar_parts` fills: nodes, lines and parts of a posterior around one sensor, with their space."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native import inner
from beliefstream.inference.update.native_polar_lines import (
    LINES,
    Component,
    Lines,
    Rule,
    Sensor,
    new_lines,
)
from beliefstream.inference.update.native_polar_nodes import (
    MOST_PANELS,
    STACK,
    Panels,
    Waiting,
    new_panels,
    new_waiting,
)

Array = NDArray[np.float64]
Places = NDArray[np.int64]

MOST_WINDOWS = 20  # of one component
LEVELS = 8  # of light nodes, at most
MOST_NODES, MOST_STRIPS = 10240, 2048  # of one problem


class Sight(NamedTuple):
    """One observation, and the logs of its densities: of an inlier with a residual of zero, and of an outlier."""

    sensor: Sensor
    log_inlier: float
    log_outlier: float


class One(NamedTuple):
    """A component of the prior, with its part of the posterior."""

    part: Component
    log_weight: float  # with that of an inlier
    mass: float  # log, by its panels
    share: float  # of the posterior
    source: int
    fine: float  # half width of its panels, in standard deviations of its windows


class Rules(NamedTuple):
    """Nodes within a panel: those of an outer rule and of its check; inner ones, and one at the peak."""

    outer: Array  # (4,), as half widths, and their weights
    weights: Array
    check: Array  # (3,)
    check_weights: Array
    inner: Rule
    peak: Rule


class Nodes(NamedTuple):
    """Nodes of one posterior, relative to the sensor."""

    x: Array
    y: Array
    share: Array  # of the rough evidence
    likelihood: Array  # log


class Strips(NamedTuple):
    """Moments of the inner nodes of one line, which also stand for the places between it and the next."""

    share: Array  # as of `Nodes`
    moments: Array  # (L, 5): mean, and covariance as xx, xy, yy


class Parts(NamedTuple):
    """Parts of the posterior in the plane."""

    share: Array  # as of `Nodes`
    moments: Array  # (J, 5), as of `Strips`
    source: Places  # component of the prior
    merged: Array  # (5,), space for the moments of two


class Windows(NamedTuple):
    """Space for the windows of one component."""

    sums: Array  # (W, 6): mass, and first and second moments
    lines: Array  # (6, LINES), the same of lines
    shares: Array  # (W, LINES) of lines in windows, to be scaled
    places: Array  # (LINES,), as the next
    scale: Array


class Space(NamedTuple):
    """Space for the nodes of one problem."""

    panels: Panels
    waiting: Waiting
    ends: Places  # (K,) of each component's panels
    mass: Array  # (K,) log of each component's part
    lines: Lines
    windows: Windows
    nodes: Nodes
    strips: Strips
    parts: Parts
    carried: Array  # (2, LEVELS) shares of light nodes, and of light strips, that none stands for yet


class Counts(NamedTuple):
    """How many parts, nodes and strips there are; negative where there is no space for more."""

    parts: int
    nodes: int
    strips: int


@inner
def new_space(count: int, inner_nodes: int) -> Space:
    nodes, most = np.empty((4, MOST_NODES)), count * (MOST_WINDOWS + 1)
    of_lines = np.empty((2, LINES))
    return Space(
        new_panels(MOST_PANELS),
        new_waiting(STACK),
        np.empty(count, np.int64),
        np.empty(count),
        new_lines(inner_nodes),
        Windows(
            np.empty((MOST_WINDOWS, 6)),
            np.empty((6, LINES)),
            np.empty((MOST_WINDOWS, LINES)),
            of_lines[0],
            of_lines[1],
        ),
        Nodes(nodes[0], nodes[1], nodes[2], nodes[3]),
        Strips(np.empty(MOST_STRIPS), np.empty((MOST_STRIPS, 5))),
        Parts(np.empty(most), np.empty((most, 5)), np.empty(most, np.int64), np.empty(5)),
        np.zeros((2, LEVELS)),
    )
