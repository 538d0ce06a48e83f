"""Patterns as people type them, for LIKE."""

_LIKE = str.maketrans({"\\": "\\\\", "%": r"\%", "_": r"\_", "*": "%", "?": "_"})


def like(pattern: str) -> str:
    r"""LIKE's form of a pattern in which `*` and `?` stand for anything; its escape is `\`."""
    return pattern.translate(_LIKE)
