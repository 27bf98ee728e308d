"""What runs on one machine without Kafka: the embedded broker, simulated fleets, the offline log."""
