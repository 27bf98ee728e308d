"""Adversarial problems, and an oracle that checks answers without code of the library."""
