"""Ways in and out beside Kafka: HTTP, MQTT, files."""
