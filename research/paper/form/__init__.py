"""The published form of the Distribution Transformer, its training and its weights."""
