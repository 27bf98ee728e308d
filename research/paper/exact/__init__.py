"""Exact posteriors and classical answers of the tasks."""
