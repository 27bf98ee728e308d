"""Kafka: topics with their ids and rights, connections, producing, and which broker answers."""
