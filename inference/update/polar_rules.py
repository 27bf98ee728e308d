"""Limits of `inference.update.polar_quadrature`, and of a fit to the same lines."""

TRUNCATED = 4.0  # standard deviations to a sensor, below which the part behind it counts
MOST_UNCERTAIN = 0.01  # share of a posterior, of lines
LEAST_OF_LINES = 1e-9  # p-value of the observation; a beam farther off may lie beyond the reach of lines
LEAST_GAIN = 3e-4  # nats of a step of a fit, below which it ends
# of the mixture that a fit begins with: nats of its parts, and weight of a wide component
MERGED_TO_BEGIN, LEAST_SHARE = 1e-4, 1e-4
STEPS, FEW_STEPS = 150, 40  # of a fit; of one that begins with parts of the posterior
UNSEEN_POINTS = 256  # that measure the coordinates that no sensor touches
# effective sample sizes: above them, parts of the posterior need no fit, and a fit to lines needs no search
CLOSE, SEARCHED = 0.97, 0.5
ASKED = 0.95  # effective sample size, above which an answer that must be better is left to refinement
