"""The worker: takes batches of messages, checks them, updates beliefs and sends posteriors."""
