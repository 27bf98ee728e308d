"""Evaluation of the network: exact posteriors, baselines and scores."""
