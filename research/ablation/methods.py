"""Placeholder until the update's methods have landed."""
