"""Fits sensors and motion to observations by their evidence, without a truth; checks and draws what was fitted."""
