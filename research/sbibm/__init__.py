"""The benchmark of simulation-based inference, sbibm: its tasks as problems of a user, scored by C2ST."""
