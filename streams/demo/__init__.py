"""The demo: a real recording and a simulated fleet through a broker and a worker, checked at the end."""
