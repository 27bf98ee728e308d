"""Programs under load: workers, the gateway and the live page beside a real broker."""
