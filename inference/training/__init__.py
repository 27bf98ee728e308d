"""Training of the Distribution Transformer: problem families, loss, the loop."""
