"""Benchmarks: speeds as ratios to a baseline in the same run, because the speed of machines varies."""
