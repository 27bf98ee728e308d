"""Beliefs over time: events, prediction, filtering, and observations that arrive late."""
