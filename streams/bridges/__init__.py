"""Ways in and out besides Kafka: observations, definitions and posteriors in files."""
