"""What each method of the update is worth: the same problems without it."""
