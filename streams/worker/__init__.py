"""The worker: reads batches of messages, validates them, updates beliefs and sends posteriors."""
