"""The update of a batch of mixtures by observations: network, closed forms, check and refinement."""
