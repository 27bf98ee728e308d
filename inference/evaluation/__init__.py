"""Exact posteriors, baselines and scores: what the network is measured against."""
