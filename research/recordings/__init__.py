"""Recordings of real sensors, most with a known truth, and how their settings were chosen."""
