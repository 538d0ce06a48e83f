"""Which numbers are ports."""

HIGHEST_PORT = 65_535
_LONGEST_NUMBER = 10  # digits


def port_of(text: str) -> int | None:
    """The port that a text names; None where it names none."""
    is_number = text.isascii() and text.isdigit() and len(text) < _LONGEST_NUMBER
    return int(text) if is_number and 0 < int(text) <= HIGHEST_PORT else None
