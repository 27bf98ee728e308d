"""Kafka and Faust code: the worker, its clients, the command line, the demo and the benchmarks."""
