"""Likelihoods of observations: measurement functions, noise, and what a mixture predicts."""
