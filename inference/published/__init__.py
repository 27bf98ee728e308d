"""The Distribution Transformer in its published form, for a problem of the user: one pass, from prior to posterior."""
