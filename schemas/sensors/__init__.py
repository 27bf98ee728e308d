"""The kinds of sensors; `schemas.sensor` combines them."""
