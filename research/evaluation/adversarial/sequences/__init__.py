"""Runs of updates in which a belief that is sure turns out wrong, compared with the exact posterior along the way."""
