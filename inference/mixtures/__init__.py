"""Gaussian mixtures: their moments, reduction and splitting, and the linear algebra for them."""
