"""`beliefstream train`, `train-likelihood` and `train-posterior`: the network, or what a problem of your own needs."""
