"""The live page: a map of all beliefs in a browser, on which priors are drawn by mouse or finger."""
