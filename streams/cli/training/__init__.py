"""`beliefstream train`: the network, a learned likelihood, or the published form for a problem."""
