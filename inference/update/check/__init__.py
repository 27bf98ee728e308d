"""Importance sampling checks an answer; where it is poor, it is refined, or the posterior is searched."""
