"""The HTTP gateway: observations and priors in, posteriors out."""
