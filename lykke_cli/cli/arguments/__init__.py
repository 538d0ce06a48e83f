"""Shared options, how their texts become values, completion and help; nothing is run."""
