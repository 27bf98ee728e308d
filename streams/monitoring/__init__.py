"""Monitoring: metrics, logging, and throttling of repeated log lines."""
