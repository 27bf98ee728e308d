"""Benchmarks: speeds as ratios to a baseline measured in the same run, because machines are noisy."""
