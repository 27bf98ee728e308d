"""The Distribution Transformer, its features and its trained weights."""
