"""A simulated drive among buildings by satellites, and what filters make of it."""
