"""Posteriors by learned likelihoods, beside those by the true ones."""
