"""Logs without a worker, and simulated ones."""
