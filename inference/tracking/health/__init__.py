"""Health of sensors: how well each observation fits its prediction, and sequential tests of what that says."""
