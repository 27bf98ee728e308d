"""The demo: a broker and a worker process a real recording and a simulated fleet; the results are scored."""
