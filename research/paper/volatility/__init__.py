"""Task: stochastic volatility."""
