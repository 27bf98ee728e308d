"""Training of the Distribution Transformer: loss, training loop, model card."""
