"""Task: the variance of a normal distribution."""
