"""Limits of `inference.update.polar_quadrature`, and of a fit to the same lines."""

from __future__ import annotations

from beliefstream.inference.update.settings import UpdateSettings

TRUNCATED = 4.0  # standard deviations to a sensor, below which the part behind it counts
MOST_UNCERTAIN = 0.01  # share of a posterior, of lines
LEAST_OF_LINES = 1e-9  # p-value of the observation; a beam farther off may lie beyond the reach of lines
MOST_BEYOND = 1e-6  # share of the posterior that may lie there if it does
LEAST_GAIN = 3e-4  # nats of a step of a fit, below which it ends
# of the mixture that a fit begins with: nats of its parts, and weight of a wide component
MERGED_TO_BEGIN, LEAST_SHARE = 1e-4, 1e-4
STEPS, FEW_STEPS = 150, 40  # of a fit; of one that begins with parts of the posterior
UNSEEN_POINTS = 256  # that measure the coordinates that no sensor touches
# effective sample sizes: above them, parts of the posterior need no fit, and a fit to lines needs no search; nor does a
# poorer fit where the settings ask for no more of a refined answer
CLOSE, SEARCHED = 0.97, 0.5
ASKED = 0.95  # effective sample size, above which an answer that must be better is left to refinement


def searched_below(settings: UpdateSettings) -> float:
    """Effective sample size of a fit to lines below which a search may find a better answer, which is worth its time.

    Where the posterior is too thin for as many components as an answer may have, a search finds no better one. It only
    takes a hundred times as long.
    """
    return SEARCHED if settings.repeat_below > SEARCHED else 0.0
