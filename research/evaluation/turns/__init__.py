"""Beliefs over many steps of a coordinated turn, beside a particle filter that stands for the exact ones."""
