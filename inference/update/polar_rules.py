"""Limits of `inference.update.polar_quadrature`."""

TRUNCATED = 4.0  # standard deviations to a sensor, below which the part behind it counts
