"""Benchmarks: speeds as ratios to a baseline measured in the same run, for machines are noisy."""
