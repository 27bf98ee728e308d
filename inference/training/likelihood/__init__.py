"""Training of likelihoods from simulators: training loop, held-out calibration, card."""
