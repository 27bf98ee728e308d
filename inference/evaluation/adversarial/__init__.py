"""Adversarial problems, and how honest the answers to them are, by an oracle that shares no code with the library."""
