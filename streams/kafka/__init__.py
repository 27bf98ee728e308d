"""Kafka: topics, rights, connections, partitioners, producing, and fixes for the client libraries."""
