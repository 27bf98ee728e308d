"""Runs without Kafka on one machine: the embedded broker, simulated fleets, the offline log."""
