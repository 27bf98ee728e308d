"""Likelihoods that are learned from a simulator: the network, the laws of single data, and the files of weights."""
