"""Task: hyperparameters of a Gaussian process."""
