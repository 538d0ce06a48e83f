"""Files made from the code itself: `python -m tests.generators completions|man|api`."""
