"""The benchmark of simulation-based inference, sbibm: ten tasks, beside the best of its original methods."""
