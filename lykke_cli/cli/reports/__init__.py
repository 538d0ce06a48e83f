"""Charts, lists and pictures that are drawn once; what follows a stream is in `output`."""
