"""Training of the published form of a problem of the user."""
