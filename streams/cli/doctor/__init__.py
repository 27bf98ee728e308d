"""The checks of `beliefstream doctor`."""
