"""The arguments of each command and its help; what a command then does is in `runs`."""
