"""Kinds of sensors; `schemas.sensor` combines them in one type."""
