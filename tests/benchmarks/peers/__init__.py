"""What one would write by hand with the libraries alone: `lykke` is measured beside it."""

from pathlib import Path

from tests.programs import program


def peer_words(name: str) -> list[str]:
    """The words that run tests/benchmarks/peers/`name`.py."""
    return program(name, Path(__file__).parent)
