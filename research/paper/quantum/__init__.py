"""Task: parameters of a quantum system."""
