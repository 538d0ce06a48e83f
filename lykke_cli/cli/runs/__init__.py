"""What each command does, in a file of its name; no options, and nothing that is drawn."""
