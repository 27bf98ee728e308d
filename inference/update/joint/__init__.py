"""Updates with several observations in the plane at one instant, by one quadrature of their joint density."""
