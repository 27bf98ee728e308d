"""Measurements around Beliefstream that no user needs: not in the wheel; nothing in `beliefstream` imports it."""
