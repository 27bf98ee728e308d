"""Updates with observations that touch two coordinates, by quadrature in a Cartesian or a polar frame."""
