"""Kafka and Faust: the worker, its clients, the command line and the live page."""
