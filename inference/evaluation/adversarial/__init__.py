"""Adversarial problems, and an oracle that checks the answers' honesty and shares no code with the library."""
