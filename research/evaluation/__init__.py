"""Evaluation of updates: families of problems, exact posteriors, baselines and scores."""
