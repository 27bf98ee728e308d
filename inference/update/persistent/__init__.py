"""Updates with errors of sensors that last, which are hidden coordinates."""
