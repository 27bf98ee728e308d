"""Recovery: a belief that was sure and wrong comes back."""
