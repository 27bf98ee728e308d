"""Kafka and Faust: the worker, its clients, the command line, and shows and measurements of the whole."""
