"""Exact posteriors: on a grid, or by annealed importance sampling, and the sample that stands for each."""
