"""The command line; what a service or a browser would need as well belongs further in."""
