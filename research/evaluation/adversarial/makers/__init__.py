"""Makers of problems, by kind: in the plane, of odd likelihoods and priors, in larger states."""
