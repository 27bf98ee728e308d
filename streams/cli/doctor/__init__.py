"""`beliefstream doctor`: the command is in `command.py`, the checks are in the other files."""
