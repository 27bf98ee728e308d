"""Definitions of sensors and models: reads them from their topics and converts them for inference."""
