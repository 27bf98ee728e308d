"""Messages that hold a belief: the mixture, a prior that replaces or multiplies one, and a posterior."""
