"""Adversarial problems, and an oracle that checks answers independently of the library's code."""
