"""Updates in closed form, exact or nearly: Kalman, and linearised to the second order."""
