"""Messages sent and read by hand: observations, priors, resets, posteriors and dead letters."""
