"""Task: a target followed by range and bearing over many steps."""
