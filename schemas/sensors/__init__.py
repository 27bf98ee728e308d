"""The kinds of sensors; `schemas.sensor` has them together."""
