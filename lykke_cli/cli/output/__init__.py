"""How messages reach stdout and stderr; no command and no option."""
