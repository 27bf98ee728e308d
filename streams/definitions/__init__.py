"""Reads the definitions of sensors and models from their topics, and converts them for inference."""
