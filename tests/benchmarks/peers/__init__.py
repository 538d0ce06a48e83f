"""What one would write by hand with the libraries alone: `lykke` is measured beside it."""

import sys
from pathlib import Path


def peer_words(name: str) -> list[str]:
    """The words that run tests/benchmarks/peers/`name`.py."""
    return [sys.executable, "-P", str(Path(__file__).with_name(f"{name}.py"))]
